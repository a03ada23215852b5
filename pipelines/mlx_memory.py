"""MLX's device memory, behind the interface that the runner uses for either engine."""

from contextlib import AbstractContextManager

import mlx.core as mx

from models.kernels.inflight import limit_inflight_memory
from pipelines.base import DeviceMemory

MEGAPIXEL = 1024 * 1024
# For each megapixel, beyond the weights. With less, steps are a tenth slower: acceptable where memory is short.
INFLIGHT_BYTES, STAGED_INFLIGHT_BYTES = 2 * 1024**3, 1024**3


def inflight_limit(pixels: int, staged: bool) -> AbstractContextManager[None]:
    """Memory for the queued work of a picture of so many pixels. Two steps in flight are held to the same as one."""
    room = STAGED_INFLIGHT_BYTES if staged else INFLIGHT_BYTES
    return limit_inflight_memory(int(room * max(pixels / MEGAPIXEL, 0.25)))


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
