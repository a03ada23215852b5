"""What this machine has: memory, NVIDIA cards, and MLX's backends. No MLX, no torch."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from runner.units import GIB

GPU_BACKENDS = ("mlx-cuda-12", "mlx-cuda-13")
BACKENDS = ("mlx-metal", "mlx-cpu", *GPU_BACKENDS)
VISIBLE = "CUDA_VISIBLE_DEVICES"

# Assumed where the system does not say.
UNKNOWN_MEMORY = 8 * GIB
# The share of the free memory that weights may be unpacked into: caches and activations come on top.
UNPACK_SHARE = 0.75

CGROUPS = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
# In a control group's folder, for version 2 and 1: the limit, the usage, and the part of it that is reclaimable files.
_NAMES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def device_memory() -> int | None:
    """The machine's memory in bytes, or what a container may use of it; None when the system does not say."""
    sizes = [size for size in (_physical_memory(), _container_limit()) if size]
    return min(sizes, default=None)


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return _sysctl_memory() if sys.platform == "darwin" else None


def _sysctl_memory() -> int | None:
    import subprocess  # slow to import, and rarely needed

    try:
        done = subprocess.run(
            ["sysctl", "-n", "hw.memsize"], capture_output=True, text=True, timeout=5, check=True
        )
        return int(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _container_limit(root: Path = CGROUPS) -> int | None:
    limits = (_number(root / limit) for limit, *_ in _NAMES)
    return next((size for size in limits if size is not None), None)


def available_memory(meminfo: Path = MEMINFO, cgroups: Path = CGROUPS) -> int | None:
    """Bytes that a process can still allocate, in the machine and in its container; None when the system does not say."""
    return min((size for size in (_machine(meminfo), *_container(cgroups)) if size is not None), default=None)


def room_to_unpack(limit: int | None) -> int:
    """Bytes that quantized weights may take in float32: of the memory left on this machine, and of `limit`, which is all
    that a gateway has for its models."""
    left = available_memory()
    sizes = [int(size * UNPACK_SHARE) for size in (device_memory() if left is None else left,) if size]
    return min([*sizes, *([limit] if limit is not None else [])], default=0)


def _machine(meminfo: Path) -> int | None:
    sizes = _fields(meminfo)
    return sizes["MemAvailable:"] * 1024 if "MemAvailable:" in sizes else None


def _container(root: Path) -> Iterator[int]:
    for limit, usage, stat, files in _NAMES:
        maximum, used = _number(root / limit), _number(root / usage)
        if maximum is not None and used is not None:
            yield max(0, maximum - used + _fields(root / stat).get(files, 0))


def _fields(path: Path) -> dict[str, int]:
    """A file whose lines are a name and a number."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None  # no such group, or "max": no limit


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


def has_gpu_backend() -> bool:
    """Whether MLX will compute on a GPU, as far as this can be known without importing it."""
    return sys.platform == "darwin" or any(map(is_installed, GPU_BACKENDS))


def card_memory() -> int | None:
    """The memory of the NVIDIA card in use: the first visible one. None without a card or driver."""
    with _driver() as nvml:
        card, memory = ctypes.c_void_p(), _Memory()
        if nvml is None or _handle(nvml, card) or nvml.nvmlDeviceGetMemoryInfo(card, ctypes.byref(memory)):
            return None
        return int(memory.total)


def card_architecture() -> str | None:
    """The architecture that this card's kernels are compiled for: `sm_90`."""
    with _driver() as nvml:
        card, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
        if nvml is None or _handle(nvml, card):
            return None
        if nvml.nvmlDeviceGetCudaComputeCapability(card, ctypes.byref(major), ctypes.byref(minor)):
            return None
        return f"sm_{major.value}{minor.value}"


def visible_cards() -> tuple[str, ...]:
    """The cards that may be used, in the format of CUDA_VISIBLE_DEVICES."""
    variable = os.environ.get(VISIBLE)
    if variable is not None:
        return tuple(name.strip() for name in variable.split(",") if name.strip())
    with _driver() as nvml:
        count = ctypes.c_uint()
        if nvml is None or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return ()
        return tuple(str(index) for index in range(count.value))


@contextmanager
def _driver() -> Iterator[ctypes.CDLL | None]:
    """NVIDIA's management library, initialized; None where it is missing."""
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
