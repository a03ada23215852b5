"""What MLX holds on its device, as the runner asks it of either engine."""

import contextlib
from collections.abc import Iterator

import mlx.core as mx

from pipelines.base import DeviceMemory

MEGAPIXEL = 1024 * 1024
# Beyond the weights, for each megapixel: with less, steps are a tenth slower, which those who asked for little memory bear.
ROOM, LITTLE_ROOM = 2 * 1024**3, 1024**3


@contextlib.contextmanager
def short_lead(pixels: int, staged: bool) -> Iterator[None]:
    """Work is handed to a GPU far ahead of what it has done, and what each piece needs is held until then: gigabytes,
    with which nothing is faster. Near MLX's memory limit it waits for the work in hand instead."""
    if mx.default_device() != mx.gpu:
        yield
        return
    room = int((LITTLE_ROOM if staged else ROOM) * max(pixels / MEGAPIXEL, 0.25))
    lower = mx.get_active_memory() + room
    before = mx.set_memory_limit(lower)
    mx.set_memory_limit(min(before, lower))  # a limit that was asked for is kept
    try:
        yield
    finally:
        mx.set_memory_limit(before)


class MlxMemory(DeviceMemory):
    relief = "a smaller picture may, or a runner with --memory staged or --quantize 4"

    def held(self) -> int:
        return mx.get_active_memory() + mx.get_cache_memory()

    def peak(self) -> int:
        return mx.get_peak_memory()

    def begin(self) -> None:
        mx.reset_peak_memory()

    def clear(self) -> None:
        mx.clear_cache()

    def close(self) -> None:
        mx.clear_streams()
