"""What MLX holds on its device, as the runner asks it of either engine."""

import mlx.core as mx

from pipelines.base import DeviceMemory


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
