"""The system, processor, memory and compiler: what is known without MLX."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from runner.doctor.findings import Finding, Status
from runner.errors import ModelNotSupported
from runner.hardware import card_architecture, card_memory, device_memory, has_gpu_backend
from runner.process.child import check_platform
from runner.units import show_size

SECTION = "machine"
COMPILERS = ("g++", "c++", "clang++")


def machine() -> Iterator[Finding]:
    yield _system()
    yield Finding(SECTION, "processor", Status.OK, f"{_processor()}, {_cores()}")
    memory = device_memory()
    yield Finding(
        SECTION, "memory", Status.OK, "not reported by the system" if memory is None else show_size(memory)
    )
    card = card_architecture()
    if card is not None:
        yield _card(card)
    if not has_gpu_backend():
        yield _compiler()


def _system() -> Finding:
    detail = f"{platform.platform()}, {platform.machine()}"
    try:
        check_platform()
    except ModelNotSupported as error:
        return Finding(SECTION, "system", Status.FAIL, detail, error.message)
    return Finding(SECTION, "system", Status.OK, detail)


def _processor() -> str:
    if sys.platform == "darwin":
        return _output_of("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "not reported by the system"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _cores() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{usable} core" if usable == 1 else f"{usable} cores"


def _card(architecture: str) -> Finding:
    detail = f"{architecture}, {show_size(card_memory() or 0)}"
    if has_gpu_backend():
        return Finding(SECTION, "NVIDIA card", Status.OK, detail)
    return Finding(
        SECTION, "NVIDIA card", Status.WARN, f"{detail}, which is not used",
        "install MLX's backend for it: diptych[cuda13], or diptych[cuda12] for older drivers",
    )  # fmt: skip


def _compiler() -> Finding:
    """MLX would use one to fuse operations on a CPU, but `device.prepare` stops it."""
    path = next(filter(None, map(shutil.which, COMPILERS)), None)
    return Finding(SECTION, "C++ compiler", Status.OK, f"{path or 'none'}; nothing here needs one")


def _output_of(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
