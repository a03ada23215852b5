"""What MLX holds on its device, as the runner asks it of either engine."""

from contextlib import AbstractContextManager

import mlx.core as mx

from models.kernels.inflight import bounded_lead
from pipelines.base import DeviceMemory

MEGAPIXEL = 1024 * 1024
# Beyond the weights, for each megapixel: with less, steps are a tenth slower, which those who asked for little memory bear.
ROOM, LITTLE_ROOM = 2 * 1024**3, 1024**3


def short_lead(pixels: int, staged: bool) -> AbstractContextManager[None]:
    """As far ahead of the GPU as a picture of so many pixels needs. A step that is handed over during the one before is
    held to the same, so that being one ahead takes no more."""
    return bounded_lead(int((LITTLE_ROOM if staged else ROOM) * max(pixels / MEGAPIXEL, 0.25)))


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
