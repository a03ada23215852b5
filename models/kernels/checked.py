"""A custom kernel that is used only where it agrees with MLX's own operations.

TWICE = CheckedKernel("twice", on_cuda, HALVES, lambda dtype: [(by_kernel(x), x + x)])

if TWICE.works(x.dtype): …          # else MLX's operations, with one warning
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import cast

import mlx.core as mx

log = logging.getLogger("diptych.kernels")

HALVES = (mx.bfloat16, mx.float16)
# Largest difference allowed, relative to the largest value. Both sides sum in float32.
TOLERANCE = {mx.float32: 1e-4, mx.float16: 1e-2, mx.bfloat16: 3e-2}

Case = tuple[mx.array, mx.array]

# What was reported in this process, for /v1/status.
reports: list[str] = []


def report(message: str) -> None:
    """Warn that something slower replaces a kernel."""
    log.warning("%s", message)
    reports.append(message)


class KernelError(RuntimeError):
    """A kernel whose result differs from that of plain operations."""


class CheckedKernel:
    """`cases` yields pairs of small arrays for a dtype: the kernel's result and that of plain operations.

    `runs_here` says whether this device can run it; `dtypes` are the ones it supports.
    """

    def __init__(
        self,
        name: str,
        runs_here: Callable[[], bool],
        dtypes: tuple[mx.Dtype, ...],
        cases: Callable[[mx.Dtype], Iterable[Case]],
    ) -> None:
        self.name, self.dtypes = name, dtypes
        self._runs_here, self._cases = runs_here, cases
        self._works: dict[mx.Dtype, bool] = {}

    def runs_here(self) -> bool:
        return self._runs_here()

    def works(self, dtype: mx.Dtype) -> bool:
        """Whether it may be used for a dtype. The first call in a process runs it, which is impossible while a step is traced:
        loading a model makes that call."""
        if dtype not in self.dtypes or not self._runs_here():
            return False
        if dtype not in self._works:
            self._works[dtype] = self._try(dtype)
        return self._works[dtype]

    def self_test(self, dtype: mx.Dtype) -> float:
        """Compile and run it; returns the largest relative difference. Raises KernelError if that is too large, and passes on
        errors of the compiler or the device."""
        return max(_difference(ours, plain, TOLERANCE[dtype]) for ours, plain in self._cases(dtype))

    def _try(self, dtype: mx.Dtype) -> bool:
        began = time.perf_counter()
        try:
            difference = self.self_test(dtype)
        except Exception as error:  # compilers and drivers raise anything
            report(f"plain operations replace the kernel {self.name} ({dtype}): {error}")
            return False
        seconds = time.perf_counter() - began
        log.debug("kernel %s (%s) agrees to %.1e, tried in %.2f s", self.name, dtype, difference, seconds)
        return True


def _difference(ours: mx.array, plain: mx.array, allowed: float) -> float:
    if ours.shape != plain.shape:
        raise KernelError(f"its result has the shape {ours.shape}; {plain.shape} is expected")
    wide, expected = ours.astype(mx.float32), plain.astype(mx.float32)
    largest = mx.maximum(mx.abs(expected).max(), 1e-6)
    difference = cast(float, (mx.abs(wide - expected).max() / largest).item())
    if not difference <= allowed:  # also for NaN
        raise KernelError(
            f"it differs from plain operations by {difference:.1e}; up to {allowed:.0e} is allowed"
        )
    return difference
