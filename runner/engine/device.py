"""What MLX will compute on, arranged before it is imported for the first time.

The Linux wheel for processors carries a reference BLAS of a few GFLOP/s. A real one, loaded into the global symbol
scope before `mlx.core`, is used in its stead.
"""

import ctypes
import logging
import os
import sys
from collections.abc import Callable, Iterator

from runner.engine.kernel_cache import keep_kernels
from runner.hardware import BACKENDS, GPU_BACKENDS, UNKNOWN_MEMORY, device_memory, is_installed

log = logging.getLogger("diptych.device")

LIBRARIES = (
    "libopenblas.so.0",
    "libopenblas.so",
    "libmkl_rt.so.2",
    "libmkl_rt.so",
    "libblis.so.4",
    "libblis.so",
    "libflexiblas.so.3",
)
# The BLAS that was loaded, if one was.
_blas: list[ctypes.CDLL] = []

BACKEND_ADVICE = (
    "MLX has no backend on this machine. Install one of Diptych's extras: diptych[cpu] for a processor, "
    "diptych[cuda12] or diptych[cuda13] for an NVIDIA card (one of them only; macOS needs none)"
)


def explain_import_error(error: ImportError) -> str:
    """What to say of a failed import: the advice above where MLX itself has no backend, else which package failed."""
    message = " ".join(str(error).split())
    # An `mlx.core` that was imported has a backend, whatever a package misses in it.
    if error.name in ("mlx", "mlx.core") and "mlx.core" not in sys.modules:
        installed = [name for name in BACKENDS if is_installed(name)]
        if not installed:
            return f"{BACKEND_ADVICE} ({message})"
        return f"MLX's backend {' and '.join(installed)} is installed and cannot be loaded: {message}"
    package = _failed_package(error)
    return (
        f"{package} cannot be imported: {message}. "
        "`diptych doctor` lists the versions that are installed and those that Diptych needs"
    )


def _failed_package(error: ImportError) -> str:
    """The package that is missing, or that lacks a name; where the error names neither, the one that raised it."""
    if error.name:
        return error.name.partition(".")[0]
    frame, module = error.__traceback__, ""
    while frame is not None:
        module = str(frame.tb_frame.f_globals.get("__name__", ""))
        frame = frame.tb_next
    return module.partition(".")[0] or "a package"


def leave_torch_out() -> None:
    """Before mlx-lm is imported, in a process that only makes text: torch is not there, whether installed or not.

    transformers, whose tokenizers mlx-lm uses, imports it wherever it can, which takes longer than everything else
    together, and 180 MB.
    """
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]


def prepare() -> str:
    """Arrange for fast arithmetic; a sentence for the log that says what was found. Call before importing MLX."""
    if sys.platform == "darwin":
        return "computing on Metal"
    if any(is_installed(name) for name in GPU_BACKENDS):
        keep_kernels()
        # MLX counts all shapes that its caches of plans ever met, and after some hundreds refuses every new one for good.
        os.environ.setdefault("MLX_ENABLE_CACHE_THRASHING_CHECK", "0")
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
                log.warning("DIPTYCH_BLAS names %s, which is no BLAS that can be loaded", name)
        else:
            return f"computing on the processor, in float32, with {name} for matrix products"
    return (
        "computing on the processor with MLX's own slow matrix products: no BLAS was found. "
        "Install OpenBLAS (Debian, Ubuntu: apt install libopenblas0) or set DIPTYCH_BLAS to a library's path"
    )


def _lacks_card() -> bool:
    """Whether a backend for CUDA computes on the processor. One that cannot be imported is told when it is used."""
    try:
        return not has_gpu()
    except ImportError as error:
        log.debug("MLX cannot be imported: %s", error)
        return False


def _compile_nothing() -> None:
    """Keep MLX from fusing operations on a processor.

    It would run the machine's C++ compiler, where there is one, and load libraries by predictable names from the system's
    temporary folder, where other users may have put theirs. What it gains was measured to be nothing: the same time for
    a language model's steps and prompts, 8% less without it for an autoencoder.
    """
    os.environ["MLX_DISABLE_COMPILE"] = "1"
    if "mlx.core" in sys.modules:
        sys.modules["mlx.core"].disable_compile()


def blas() -> str | None:
    """The library that `prepare` has loaded for matrix products."""
    return _blas[0]._name if _blas else None


def leave_a_core() -> Callable[[bool], None]:
    """A switch between all cores for matrix products, and all but one.

    Steps of decoding are short, and the server's own thread has to run between them: on few cores a BLAS that spins on
    all of them costs more than it brings. Where a BLAS cannot be told, or the user has told it, nothing is switched.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    tell = getattr(_blas[0], "openblas_set_num_threads", None) if _blas else None
    if tell is None or cores < 2 or "OPENBLAS_NUM_THREADS" in os.environ:
        return lambda wanted: None

    def switch(wanted: bool) -> None:
        tell(cores if wanted else cores - 1)

    switch(False)
    return switch


def has_gpu() -> bool:
    """Whether MLX computes on a GPU here. Imports MLX."""
    import mlx.core as mx

    return bool(mx.default_device() == mx.gpu)


def keep_wired() -> int | None:
    """On Metal, have macOS keep what the GPU works with in memory, up to the size that it recommends, as mlx-lm's server
    does; otherwise large models are paged out between requests. The bytes, or None on other devices. Imports MLX."""
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


def memory() -> int:
    """What the device has for weights and caches, in bytes. Imports MLX."""
    import mlx.core as mx

    return int(mx.device_info().get("memory_size", 0)) or device_memory() or UNKNOWN_MEMORY


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
