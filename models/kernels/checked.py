"""A kernel of ours that has to agree with plain operations before it is used.

TWICE = CheckedKernel("twice", on_cuda, HALVES, lambda dtype: [(by_kernel(x), x + x)])

if TWICE.works(x.dtype): …          # else the plain operations, and one warning
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import cast

import mlx.core as mx

log = logging.getLogger("diptych.kernels")

HALVES = (mx.bfloat16, mx.float16)
# The largest difference that is allowed, as a part of the largest value. Sums are in float32 on both sides.
TOLERANCE = {mx.float32: 1e-4, mx.float16: 1e-2, mx.bfloat16: 3e-2}

Case = tuple[mx.array, mx.array]


class KernelError(RuntimeError):
    """A kernel gives something else than plain operations do."""


class CheckedKernel:
    """`cases` gives pairs of small arrays for a type: what the kernel computes, and what plain operations do.

    `runs_here` says whether this device would run it; `dtypes` are those that it is for.
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
        """Whether it may be used for arrays of a type. Found out by running it, once in a process: a step that is being
        traced cannot, so whatever loads a model asks first."""
        if dtype not in self.dtypes or not self._runs_here():
            return False
        if dtype not in self._works:
            self._works[dtype] = self._try(dtype)
        return self._works[dtype]

    def self_test(self, dtype: mx.Dtype) -> float:
        """Compile and run it; the largest difference found, as a part of the largest value. KernelError when that is too
        much; what the compiler or the device raises is passed on."""
        return max(_difference(ours, plain, TOLERANCE[dtype]) for ours, plain in self._cases(dtype))

    def _try(self, dtype: mx.Dtype) -> bool:
        began = time.perf_counter()
        try:
            difference = self.self_test(dtype)
        except Exception as error:  # whatever a compiler or a driver raises, plain operations do without
            log.warning("plain operations stand in for the kernel %s (%s): %s", self.name, dtype, error)
            return False
        took = time.perf_counter() - began
        log.debug("kernel %s (%s) agrees to %.1e, tried in %.2f s", self.name, dtype, difference, took)
        return True


def _difference(ours: mx.array, plain: mx.array, allowed: float) -> float:
    if ours.shape != plain.shape:
        raise KernelError(f"its result has the shape {ours.shape}, and {plain.shape} is right")
    wide, right = ours.astype(mx.float32), plain.astype(mx.float32)
    largest = mx.maximum(mx.abs(right).max(), 1e-6)
    difference = cast(float, (mx.abs(wide - right).max() / largest).item())
    if not difference <= allowed:  # NaN is not
        raise KernelError(
            f"it differs from plain operations by {difference:.1e}, and {allowed:.0e} is allowed"
        )
    return difference
