"""Where torch computes, in what precision, and what it holds there."""

import sys

import torch

from pipelines.base import DeviceMemory


def choose_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def choose_dtype(wanted: str, device: torch.device, stored: str | None) -> torch.dtype:
    """`auto`: bfloat16 on a GPU, float32 on a processor. `checkpoint`: what most of its weights are stored in."""
    if wanted == "float32" or (wanted == "auto" and device.type == "cpu"):
        return torch.float32
    if wanted == "auto":
        return torch.bfloat16
    return {"F16": torch.float16, "BF16": torch.bfloat16}.get(stored or "", torch.float32)


class TorchMemory(DeviceMemory):
    """On a processor torch counts nothing: the weights are known, and the process's own peak."""

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
        """Nothing of torch's belongs to a thread."""


def _process_peak() -> int:
    """The most that this process ever held; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
