"""Work spread over the processor's cores: for NumPy and zlib, which give the interpreter up while they work."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")

MOST = 16  # more would only quarrel over the interpreter between the calls


class Threads:
    """One a core, made when there is first something for them.

    Each kind of work has its own, so that none queues behind another: noise is waited for by the GPU, and files are not.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(min(_cores(), MOST), thread_name_prefix=self._name)

    def spread(
        self, function: Callable[[Piece], Result], pieces: Iterable[Piece], count: int
    ) -> list[Result]:
        """What the function makes of each of the `count` pieces, in their order.

        A piece is begun while the next is still made. Its work must not spread in turn: it would wait for its own thread.
        """
        if count < 2:
            return [function(piece) for piece in pieces]
        return list(self._pool.map(function, pieces))


def _cores() -> int:
    """Those that this process may run on, where the system tells."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1
