"""Spreads work over the CPU's cores, for NumPy and zlib, which release the interpreter's lock while they work."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")

MOST = 16  # more threads would only contend for the interpreter's lock


class Threads:
    """One thread per core, started on first use.

    Each kind of work has its own pool, so that noise, which the GPU waits for, does not queue behind files.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(min(_cores(), MOST), thread_name_prefix=self._name)

    def spread(
        self, function: Callable[[Piece], Result], pieces: Iterable[Piece], count: int
    ) -> list[Result]:
        """The function's results for each of `count` pieces, in order.

        Work on a piece begins while the next one is produced. It must not call `spread` itself, or it would wait for its
        own thread.
        """
        if count < 2:
            return [function(piece) for piece in pieces]
        return list(self._pool.map(function, pieces))


def _cores() -> int:
    """The cores that this process may use, if the system says."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1
