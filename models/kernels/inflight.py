"""Caps the memory of queued GPU work.

MLX queues kernels well ahead of execution and keeps their inputs alive until they run, which can cost gigabytes without
being any faster. Near its memory limit it waits for work in flight instead of queueing more.
"""

import contextlib
from collections.abc import Iterator

import mlx.core as mx


@contextlib.contextmanager
def limit_inflight_memory(room: int) -> Iterator[None]:
    """Work evaluated in this context holds about `room` bytes beyond what is held now."""
    if mx.default_device() != mx.gpu:
        yield
        return
    lower = mx.get_active_memory() + room
    before = mx.set_memory_limit(lower)
    mx.set_memory_limit(min(before, lower))  # a lower limit set by the user is kept
    try:
        yield
    finally:
        mx.set_memory_limit(before)
