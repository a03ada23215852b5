"""Torch's device, precision and memory."""

import sys

import torch

from pipelines.base import DeviceMemory


def choose_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def choose_dtype(setting: str, device: torch.device, stored: str | None) -> torch.dtype:
    """`auto`: bfloat16 on a GPU, float32 on the CPU. `checkpoint`: the dtype of most of its weights, `stored`."""
    if setting == "float32" or (setting == "auto" and device.type == "cpu"):
        return torch.float32
    if setting == "auto":
        return torch.bfloat16
    return {"F16": torch.float16, "BF16": torch.bfloat16}.get(stored or "", torch.float32)


class TorchMemory(DeviceMemory):
    """On the CPU torch counts nothing: the size of the weights is known, and the peak of the process."""

    relief = "a smaller picture may"

    def __init__(self, device: torch.device, weights: int) -> None:
        self._device = device.type
        self._weights = weights

    def held(self) -> int:
        if self._device == "cuda":
            return int(torch.cuda.memory_reserved())
        if self._device == "mps":
            return int(torch.mps.driver_allocated_memory())
        return self._weights

    def peak(self) -> int:
        if self._device == "cuda":
            return int(torch.cuda.max_memory_reserved())
        if self._device == "mps":
            return int(torch.mps.driver_allocated_memory())
        return _process_peak() or self._weights

    def begin(self) -> None:
        if self._device == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def clear(self) -> None:
        if self._device == "cuda":
            torch.cuda.empty_cache()
        elif self._device == "mps":
            torch.mps.empty_cache()

    def close(self) -> None:
        """Torch has no resources that belong to a thread."""


def _process_peak() -> int:
    """The peak memory of this process; 0 if the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
