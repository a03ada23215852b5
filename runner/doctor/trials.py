"""`python -m runner.doctor.trials [DONE …]`: MLX tried on small cases, in a process that may crash.

Writes to standard output a JSON line before each trial, with its name, and one for each of its findings. Trials named in the
arguments are skipped: they are done, or crashed the previous process.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from runner.doctor.findings import Finding, Status
from runner.engine import device
from runner.hardware import has_gpu_backend

if TYPE_CHECKING:
    from models.kernels.checked import CheckedKernel
    from models.kernels.operations import Operation

IMPORT, KERNEL = "MLX", "kernel "
MAX_MESSAGE = 500  # characters, of a compiler's output
REPORT = "please open an issue with this output"

Trial = Callable[[], Iterator[Finding]]


class Begun(msgspec.Struct, frozen=True):
    """A trial has started."""

    trial: str


def main(arguments: list[str]) -> int:
    # Output of libraries goes to stderr; our lines go to the original stdout.
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def write(value: Begun | Finding) -> None:
        out.write(msgspec.json.encode(value) + b"\n")

    for name, trial in trials():
        if name in arguments:
            if name == IMPORT:
                list(trial())  # the others need it
            continue
        write(Begun(name))
        for finding in trial():
            write(finding)
    return 0


def trials() -> Iterator[tuple[str, Trial]]:
    yield IMPORT, _device
    if "mlx.core" not in sys.modules:
        return  # reported already
    from models.kernel_checks import all_kernels
    from models.kernels.operations import OPERATIONS

    for operation in OPERATIONS:
        yield operation.name, partial(_operation, operation)
    yield "our compiler", _compiler
    for kernel in all_kernels():
        yield f"{KERNEL}{kernel.name}", partial(_kernel, kernel)


def _device() -> Iterator[Finding]:
    how = device.prepare()
    try:
        import mlx.core as mx
    except ImportError as error:
        yield Finding("device", IMPORT, Status.FAIL, "cannot be imported", device.explain_import_error(error))
        return
    about = mx.device_info()
    gpu = device.has_gpu()
    name = str(about.get("device_name") or about.get("architecture") or "unknown")
    yield _computes_on(name, gpu)
    yield Finding("device", "memory for models", Status.OK, f"{device.memory():,} bytes")
    slow = not gpu and device.blas() is None and sys.platform == "linux"
    yield Finding(
        "device", "matrix products", Status.WARN if slow else Status.OK, how,
        "install OpenBLAS (Debian, Ubuntu: apt install libopenblas0)" if slow else "",
    )  # fmt: skip
    if mx.metal.is_available():
        wired = device.keep_wired()
        yield Finding(
            "device",
            "wired memory",
            Status.OK,
            "no limit is recommended" if wired is None else f"up to {wired:,} bytes",
        )


def _computes_on(name: str, gpu: bool) -> Finding:
    if gpu:
        return Finding("device", "computes on", Status.OK, name)
    if not has_gpu_backend():
        return Finding("device", "computes on", Status.OK, f"{name} (a processor)")
    detail = f"{name} (a processor): MLX's backend for a GPU finds none"
    advice = "check that the driver works (`nvidia-smi`) and that CUDA_VISIBLE_DEVICES hides no card"
    return Finding("device", "computes on", Status.FAIL, detail, advice)


def _operation(operation: "Operation") -> Iterator[Finding]:
    from models.kernels.operations import FLOAT32_PRODUCT

    try:
        difference = operation.difference()
    except Exception as error:  # anything that a compiler, a driver or MLX raises is reported
        yield _failed("operations", operation.name, error, REPORT)
        return
    detail = f"differs by {difference:.1e} of the largest value"
    if not difference <= operation.allowed:
        detail += f"; {operation.allowed:.0e} is allowed"
        yield Finding("operations", operation.name, Status.FAIL, detail, REPORT)
        return
    yield Finding("operations", operation.name, Status.OK, detail)
    if operation.name == FLOAT32_PRODUCT:
        yield _precision(difference)


def _precision(difference: float) -> Finding:
    """The precision of float32: some GPUs round the factors of products."""
    from models.kernels.operations import EXACT

    variable = os.environ.get("MLX_ENABLE_TF32")
    how = "as such" if difference <= EXACT else "as tf32; MLX_ENABLE_TF32=0 computes it as such, more slowly"
    setting = "is not set" if variable is None else f"is {variable}"
    return Finding("operations", "float32", Status.OK, f"is computed {how} (MLX_ENABLE_TF32 {setting})")


def _compiler() -> Iterator[Finding]:
    """The compiler of our kernels, on an NVIDIA card."""
    from models.kernels import gpu, nvrtc

    if not gpu.on_cuda():
        return
    reason = "a kernel that it compiled computed a wrong result"
    try:
        nvrtc.compiler()
        works = nvrtc.usable()
    except nvrtc.CompilerError as error:
        works, reason = False, str(error)
    if works:
        yield Finding("kernels", "compiler", Status.OK, f"NVRTC, for {nvrtc.architecture()}")
    else:
        advice = "the first request after a start takes longer: MLX compiles our kernels anew in each process"
        yield Finding("kernels", "compiler", Status.WARN, reason, advice)


def _kernel(kernel: "CheckedKernel") -> Iterator[Finding]:
    if not kernel.runs_here():
        yield Finding("kernels", kernel.name, Status.OK, "not used on this device; MLX's own operations are")
        return
    for dtype in kernel.dtypes:
        name = f"{kernel.name}, {str(dtype).rpartition('.')[2]}"
        began = time.perf_counter()
        try:
            difference = kernel.self_test(dtype)
        except Exception as error:  # as above
            yield _failed("kernels", name, error, f"plain operations stand in for it; {REPORT}")
        else:
            took = time.perf_counter() - began
            detail = f"agrees with plain operations to {difference:.1e}, tried in {took:.1f} s"
            yield Finding("kernels", name, Status.OK, detail)


def _failed(section: str, name: str, error: Exception, advice: str) -> Finding:
    detail = " ".join(f"{type(error).__name__}: {error}".split())
    return Finding(section, name, Status.FAIL, detail[:MAX_MESSAGE], advice)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
