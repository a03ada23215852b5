"""Prepares the device that MLX will compute on, before MLX is imported for the first time.

MLX's CPU wheel for Linux contains a reference BLAS of a few GFLOP/s. A real one that is loaded into the global symbol scope
before `mlx.core` replaces it.
"""

import ctypes
import logging
import os
import sys
from collections.abc import Callable, Iterator

from runner.engine.kernel_cache import keep_kernels
from runner.hardware import BACKENDS, GPU_BACKENDS, UNKNOWN_MEMORY, device_memory, is_installed
from runner.units import GIB

log = logging.getLogger("diptych.device")

USABLE_SHARE = 0.94  # of a card's memory
MOST_UNUSED = 3 * GIB // 2  # of freed buffers; more than the steps of a text need

LIBRARIES = (
    "libopenblas.so.0",
    "libopenblas.so",
    "libmkl_rt.so.2",
    "libmkl_rt.so",
    "libblis.so.4",
    "libblis.so",
    "libflexiblas.so.3",
)
# The loaded BLAS, if any.
_blas: list[ctypes.CDLL] = []

BACKEND_ADVICE = (
    "MLX has no backend on this machine. Install one of Diptych's extras: diptych[cpu] for a processor, "
    "diptych[cuda12] or diptych[cuda13] for an NVIDIA card (one of them only; macOS needs none)"
)


def explain_import_error(error: ImportError) -> str:
    """A message for a failed import: the advice above if MLX has no backend, else the package that failed."""
    message = " ".join(str(error).split())
    # Once `mlx.core` is imported it has a backend, even if a package misses something in it.
    if error.name in ("mlx", "mlx.core") and "mlx.core" not in sys.modules:
        installed = [name for name in BACKENDS if is_installed(name)]
        if not installed:
            return f"{BACKEND_ADVICE} ({message})"
        return f"MLX's backend {' and '.join(installed)} is installed and cannot be loaded: {message}"
    package = _failed_package(error)
    return (
        f"{package} cannot be imported: {message}. "
        "`diptych doctor` lists the versions installed and those that Diptych needs"
    )


def _failed_package(error: ImportError) -> str:
    """The package that is missing or lacks a name; if the error names none, the package that raised it."""
    if error.name:
        return error.name.partition(".")[0]
    frame, module = error.__traceback__, ""
    while frame is not None:
        module = str(frame.tb_frame.f_globals.get("__name__", ""))
        frame = frame.tb_next
    return module.partition(".")[0] or "a package"


def leave_torch_out() -> None:
    """Hide torch, installed or not. Call before importing mlx-lm, in a process that only makes text.

    mlx-lm uses the tokenizers of transformers, which imports torch wherever it can: this takes longer than everything else
    together, and 180 MB.
    """
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]


def prepare(texts: bool = False) -> str:
    """Prepare fast arithmetic; returns a sentence for the log. Call before importing MLX. `texts`: for a language model."""
    if sys.platform == "darwin":
        return "computing on Metal"
    if any(is_installed(name) for name in GPU_BACKENDS):
        keep_kernels()
        # Otherwise MLX counts all shapes in its caches of plans, and after some hundreds refuses new ones for good.
        os.environ.setdefault("MLX_ENABLE_CACHE_THRASHING_CHECK", "0")
        if texts:
            # Collecting the hundreds of small kernels of a step in CUDA graphs takes the processor longer than launching them.
            os.environ.setdefault("MLX_USE_CUDA_GRAPHS", "0")
        if _lacks_card():
            _compile_nothing()
            return "computing on the processor, slowly: MLX's backend for CUDA finds no NVIDIA card"
        return "computing on CUDA"
    _compile_nothing()
    if "mlx.core" in sys.modules:
        return "computing on the processor; MLX was imported before a BLAS could be loaded"
    for name in _candidates():
        if not _load(name):
            if name == os.environ.get("DIPTYCH_BLAS"):
                log.warning("DIPTYCH_BLAS names %s, which cannot be loaded as a BLAS", name)
        else:
            return f"computing on the processor, in float32, with {name} for matrix products"
    return (
        "computing on the processor with MLX's own slow matrix products: no BLAS was found. "
        "Install OpenBLAS (Debian, Ubuntu: apt install libopenblas0) or set DIPTYCH_BLAS to a library's path"
    )


def _lacks_card() -> bool:
    """Whether the CUDA backend computes on the CPU. One that cannot be imported is reported when it is used."""
    try:
        return not has_gpu()
    except ImportError as error:
        log.debug("MLX cannot be imported: %s", error)
        return False


def _compile_nothing() -> None:
    """Stop MLX from fusing operations on a CPU.

    It would run the machine's C++ compiler, if there is one, and load libraries by predictable names from the system's
    temporary folder, where other users may have put theirs. It gains nothing: measured times are the same for a language
    model's steps and prompts, and 8% longer for an autoencoder.
    """
    os.environ["MLX_DISABLE_COMPILE"] = "1"
    if "mlx.core" in sys.modules:
        sys.modules["mlx.core"].disable_compile()


def blas() -> str | None:
    """The library that `prepare` loaded for matrix products."""
    return _blas[0]._name if _blas else None


def leave_a_core() -> Callable[[bool], None]:
    """A switch between all cores for matrix products (True), and all but one.

    Decoding steps are short, and the server's own thread must run between them: with few cores, a BLAS that spins on all of
    them costs more than it gains. The switch does nothing if the BLAS has no such setting, or the user has set it.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    set_threads = getattr(_blas[0], "openblas_set_num_threads", None) if _blas else None
    if set_threads is None or cores < 2 or "OPENBLAS_NUM_THREADS" in os.environ:
        return lambda all_cores: None

    def switch(all_cores: bool) -> None:
        set_threads(cores if all_cores else cores - 1)

    switch(False)
    return switch


def has_gpu() -> bool:
    """Whether MLX computes on a GPU here. Imports MLX."""
    from models.kernels.gpu import on_gpu

    return on_gpu()


def keep_wired() -> int | None:
    """On Metal, set MLX's wired limit to the size that macOS recommends, as mlx-lm's server does; otherwise large models
    are paged out between requests. Returns the bytes, or None on other devices. Imports MLX."""
    import mlx.core as mx

    if not (has_gpu() and mx.metal.is_available()):
        return None
    recommended = mx.device_info().get("max_recommended_working_set_size")
    if not recommended:
        return None
    try:
        mx.set_wired_limit(int(recommended))
    except (RuntimeError, ValueError) as error:
        log.warning("the memory of models may be paged out, because the wired limit cannot be set: %s", error)
        return None
    return int(recommended)


def limit_unused() -> None:
    """On a GPU, bound what MLX keeps of freed buffers. By default that is nearly all of the memory, which a model then holds
    at rest. Imports MLX."""
    import mlx.core as mx

    if has_gpu():
        mx.set_cache_limit(MOST_UNUSED)


def memory() -> int:
    """The device's memory in bytes. Imports MLX."""
    import mlx.core as mx

    return int(mx.device_info().get("memory_size", 0)) or device_memory() or UNKNOWN_MEMORY


def active_memory() -> int:
    """What MLX holds now, in bytes: after a load, the weights. Imports MLX."""
    import mlx.core as mx

    return mx.get_active_memory()


def usable_memory() -> int:
    """What a GPU can work with, in bytes: on a Mac what macOS recommends, elsewhere nearly all of it. Imports MLX."""
    import mlx.core as mx

    recommended = int(mx.device_info().get("max_recommended_working_set_size", 0))
    return recommended or int(memory() * USABLE_SHARE)


def _candidates() -> Iterator[str]:
    chosen = os.environ.get("DIPTYCH_BLAS")
    if chosen:
        yield chosen
    yield from LIBRARIES


def _load(name: str) -> bool:
    try:
        library = ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        log.debug("no %s: %s", name, error)
        return False
    if not hasattr(library, "cblas_sgemm"):
        return False
    _blas[:] = [library]
    return True
