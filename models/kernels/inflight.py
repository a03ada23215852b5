"""How far the processor runs ahead of a GPU, in bytes.

Work is handed to a GPU far ahead of what it has done, and what each piece needs is held until then: gigabytes, with which
nothing is faster. Near MLX's memory limit it waits for the work in hand instead.
"""

import contextlib
from collections.abc import Iterator

import mlx.core as mx


@contextlib.contextmanager
def bounded_lead(room: int) -> Iterator[None]:
    """What is evaluated meanwhile holds about `room` bytes beyond what is held now."""
    if mx.default_device() != mx.gpu:
        yield
        return
    lower = mx.get_active_memory() + room
    before = mx.set_memory_limit(lower)
    mx.set_memory_limit(min(before, lower))  # a limit that was asked for is kept
    try:
        yield
    finally:
        mx.set_memory_limit(before)
