"""How much memory there is for models: the device's, less what the system and others need. No MLX, no process."""

import ctypes
import logging
import os
import sys

from runner.device import GPU_BACKENDS, is_installed
from runner.memory import GIB, device_memory

log = logging.getLogger("diptych.gateway")

# The share of it that models get. On a Mac, Metal itself lends about three quarters.
MAC_SHARE = 0.75
CARD_SHARE = 0.94
RAM_SHARE = 0.85
# When the system says nothing at all.
UNKNOWN = 8 * GIB


def default_budget() -> tuple[int, str]:
    """Bytes for models, and where the number comes from."""
    if sys.platform == "darwin":
        return _share(device_memory(), MAC_SHARE, "unified memory")
    if has_gpu_backend():
        card = card_memory()
        if card is not None:
            return _share(card, CARD_SHARE, "the card's memory")
    return _share(device_memory(), RAM_SHARE, "memory")


def _share(memory: int | None, share: float, whose: str) -> tuple[int, str]:
    if memory is None:
        return UNKNOWN, "a guess: the system does not say how much memory there is"
    return int(memory * share), f"{share:.0%} of {whose}"


def has_gpu_backend() -> bool:
    """Whether models will be computed on a GPU, as far as can be told without MLX."""
    return sys.platform == "darwin" or any(map(is_installed, GPU_BACKENDS))


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


def card_memory() -> int | None:
    """The memory of the NVIDIA card that MLX takes: the first that is visible. None when the driver says nothing."""
    try:
        nvml = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    except OSError:
        return None
    if nvml.nvmlInit_v2():
        return None
    try:
        card, memory = ctypes.c_void_p(), _Memory()
        if _handle(nvml, card) or nvml.nvmlDeviceGetMemoryInfo(card, ctypes.byref(memory)):
            return None
        return int(memory.total)
    finally:
        nvml.nvmlShutdown()


def _handle(nvml: ctypes.CDLL, card: ctypes.c_void_p) -> int:
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip() or "0"
    if first.isdigit():
        return int(nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(first)), ctypes.byref(card)))
    return int(nvml.nvmlDeviceGetHandleByUUID(first.encode(), ctypes.byref(card)))
