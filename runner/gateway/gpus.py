"""The NVIDIA cards of this machine, as the driver tells: how many, and what the first one has. No MLX, no torch."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from runner.engine.device import GPU_BACKENDS, is_installed
from runner.errors import BadRequest
from runner.inspect.image_backend import ImageEngine

VISIBLE = "CUDA_VISIBLE_DEVICES"


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


def has_gpu_backend() -> bool:
    """Whether MLX will compute on a GPU, as far as can be told without it."""
    return sys.platform == "darwin" or any(map(is_installed, GPU_BACKENDS))


def on_gpu(engine: ImageEngine) -> bool:
    """The same of either engine: torch takes the card that it finds."""
    if engine is ImageEngine.MLX:
        return has_gpu_backend()
    return sys.platform == "darwin" or card_memory() is not None


def card_memory() -> int | None:
    """The memory of the NVIDIA card that is taken: the first that is visible. None when the driver says nothing."""
    with _driver() as nvml:
        card, memory = ctypes.c_void_p(), _Memory()
        if nvml is None or _handle(nvml, card) or nvml.nvmlDeviceGetMemoryInfo(card, ctypes.byref(memory)):
            return None
        return int(memory.total)


def card_architecture() -> str | None:
    """What that card's kernels are compiled for: `sm_90`."""
    with _driver() as nvml:
        card, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
        if nvml is None or _handle(nvml, card):
            return None
        if nvml.nvmlDeviceGetCudaComputeCapability(card, ctypes.byref(major), ctypes.byref(minor)):
            return None
        return f"sm_{major.value}{minor.value}"


def visible_cards() -> tuple[str, ...]:
    """Every card that may be used, as CUDA_VISIBLE_DEVICES names them."""
    stated = os.environ.get(VISIBLE)
    if stated is not None:
        return tuple(name.strip() for name in stated.split(",") if name.strip())
    with _driver() as nvml:
        count = ctypes.c_uint()
        if nvml is None or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return ()
        return tuple(str(index) for index in range(count.value))


def cards_for(replicas: int, engine: ImageEngine) -> tuple[str, ...]:
    """One card for each of so many runners of a model; none where they share a processor. BadRequest where there are
    too few."""
    if replicas == 1 or not on_gpu(engine):
        return ()
    if sys.platform == "darwin":
        raise BadRequest(f"replicas = {replicas} needs as many GPUs, and a Mac has one; 1 is allowed")
    found = visible_cards()
    if len(found) < replicas:
        whose = f"{VISIBLE} lists" if VISIBLE in os.environ else "this machine has"
        raise BadRequest(f"replicas = {replicas} needs as many GPUs; {whose} {len(found)}")
    return found[:replicas]


@contextmanager
def _driver() -> Iterator[ctypes.CDLL | None]:
    """NVIDIA's management library, while it is asked; None where there is none."""
    try:
        nvml = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    except OSError:
        yield None
        return
    if nvml.nvmlInit_v2():
        yield None
        return
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def _handle(nvml: ctypes.CDLL, card: ctypes.c_void_p) -> int:
    first = os.environ.get(VISIBLE, "0").split(",")[0].strip() or "0"
    if first.isdigit():
        return int(nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(first)), ctypes.byref(card)))
    return int(nvml.nvmlDeviceGetHandleByUUID(first.encode(), ctypes.byref(card)))
