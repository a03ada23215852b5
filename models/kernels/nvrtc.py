"""Kernels of our own on NVIDIA cards, compiled once and kept for the next process: MLX keeps only its own.

    kernel = cuda_kernel("twice", ["x"], ["y"], "…")     # the body of a function, as mx.fast.cuda_kernel takes it
    (y,) = kernel(inputs=[x], template=[("T", x.dtype)], grid=…, threadgroup=…, output_shapes=…, output_dtypes=…)

`x_shape[1]` in the source is a number given with each call; what is in `template` is compiled in. Nothing is included, so
that compiling takes a moment, not the seconds that MLX's headers take. Where the compiler cannot be had, MLX compiles.
"""

import ctypes
import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import mlx.core as mx

log = logging.getLogger("diptych.kernels")

Template: TypeAlias = Sequence[tuple[str, Any]]

# Where MLX keeps its own, if anywhere (runner/engine/kernel_cache.py).
FOLDER = "MLX_PTX_CACHE_DIR"
COMPILERS = ("libnvrtc.so.13", "libnvrtc.so.12")  # whichever MLX has brought along
SHAPE = re.compile(r"\b(\w+)_shape\[(\d+)\]")
TYPES = {
    mx.bfloat16: "bfloat16", mx.float16: "float16", mx.float32: "float", mx.int32: "int", mx.uint32: "unsigned",
}  # fmt: skip
# Half precision without a header: bits, and the conversions.
PRELUDE = """
struct bfloat16 {
    unsigned short bits;
    bfloat16() = default;
    __device__ explicit bfloat16(float x) {
        unsigned u = __float_as_uint(x);
        bits = (u & 0x7fffffffu) > 0x7f800000u ? 0x7fff : (u + 0x7fffu + ((u >> 16) & 1)) >> 16;
    }
    __device__ operator float() const { return __uint_as_float((unsigned)bits << 16); }
};
struct float16 {
    unsigned short bits;
    float16() = default;
    __device__ explicit float16(float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }
    __device__ operator float() const { float x; asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits)); return x; }
};
"""


class CompilerError(RuntimeError):
    """The compiler cannot be had, or does not take a kernel; the message is its own."""


class Kernel:
    """Compiled for each template and types of inputs that it is called with."""

    def __init__(self, name: str, inputs: Sequence[str], outputs: Sequence[str], source: str) -> None:
        self._name, self._inputs, self._outputs = name, tuple(inputs), tuple(outputs)
        self._numbers = sorted({(found[1], int(found[2])) for found in SHAPE.finditer(source)})
        self._body = SHAPE.sub(r"\1_\2", source)
        self._compiled: dict[tuple[Any, ...], tuple[str, bytes]] = {}

    def __call__(
        self,
        *,
        inputs: Sequence[mx.array],
        template: Template,
        output_shapes: Sequence[tuple[int, ...]],
        output_dtypes: Sequence[mx.Dtype],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
    ) -> list[mx.array]:
        key = (*template, *(x.dtype for x in inputs), *output_dtypes)
        if key not in self._compiled:
            text = self.text(template, [x.dtype for x in inputs], output_dtypes)
            name = f"{self._name}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
            self._compiled[key] = name, compiled(name, text.replace("NAME", name, 1), architecture())
        name, code = self._compiled[key]
        shapes = {given: x.shape for given, x in zip(self._inputs, inputs, strict=True)}
        return mx.fast.precompiled_cuda_kernel(
            name=name,
            compiled_source=code,
            inputs=inputs,
            output_shapes=output_shapes,
            output_dtypes=output_dtypes,
            scalars=[shapes[given][axis] for given, axis in self._numbers],
            grid=grid,
            threadgroup=threadgroup,
            ensure_row_contiguous=True,
        )

    def text(self, template: Template, inputs: Sequence[mx.Dtype], outputs: Sequence[mx.Dtype]) -> str:
        """The whole of what is compiled; NAME stands for the function's name."""
        arguments = [
            *(f"const {TYPES[kind]}* {name}" for name, kind in zip(self._inputs, inputs, strict=True)),
            *(f"{TYPES[kind]}* {name}" for name, kind in zip(self._outputs, outputs, strict=True)),
            *(f"const int {name}_{axis}" for name, axis in self._numbers),
        ]
        stated = "".join(_stated(name, value) for name, value in template)
        head = f'{PRELUDE}extern "C" __global__ void NAME({", ".join(arguments)}) {{\n'
        return f"{head}{stated}{self._body}\n}}\n"


def _stated(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"constexpr bool {name} = {str(value).lower()};\n"
    if isinstance(value, int):
        return f"constexpr int {name} = {value};\n"
    return f"using {name} = {TYPES[value]};\n"


@cache
def cuda_kernel(name: str, inputs: tuple[str, ...], outputs: tuple[str, ...], source: str) -> Any:
    """A kernel, by our compiling or by MLX's."""
    if usable():
        return Kernel(name, inputs, outputs, source)
    return mx.fast.cuda_kernel(name=name, input_names=list(inputs), output_names=list(outputs), source=source)


@cache
def usable() -> bool:
    """Whether a kernel that was compiled here runs. To be asked before anything is traced."""
    kernel = Kernel(
        "trial", ("x",), ("y",), "if (threadIdx.x < x_shape[0]) y[threadIdx.x] = (T)(x[threadIdx.x] + 1);"
    )
    x = mx.arange(3).astype(mx.bfloat16)
    try:
        (y,) = kernel(
            inputs=[x], template=[("T", x.dtype)], grid=(32, 1, 1), threadgroup=(32, 1, 1),
            output_shapes=[x.shape], output_dtypes=[x.dtype],
        )  # fmt: skip
        if mx.array_equal(y, x + 1):
            return True
        reason: object = f"1 more than {x.tolist()} was {y.tolist()}"
    except Exception as error:  # the call is experimental: whatever it raises, MLX compiles instead
        reason = error
    log.warning("MLX compiles our kernels, anew for each process: %s", reason)
    return False


@cache
def architecture() -> str:
    return str(mx.device_info()["architecture"])


def compiled(name: str, text: str, architecture: str) -> bytes:
    """Code for the card: from the folder, or compiled and put there."""
    folder = os.environ.get(FOLDER)
    path = Path(folder) / f"{name}_{architecture}.cubin" if folder else None
    try:
        if path is not None and path.exists():
            return path.read_bytes()
    except OSError as error:
        log.debug("%s cannot be read: %s", path, error)
    code = _compile(name, text, architecture)
    if path is not None:
        _keep(path, code)
    return code


def _keep(path: Path, code: bytes) -> None:
    """Whole or not at all: another process may be reading."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(code)
        os.replace(file.name, path)
    except OSError as error:
        log.debug("%s is not kept: %s", path, error)


def _compile(name: str, text: str, architecture: str) -> bytes:
    library = compiler()
    program = ctypes.c_void_p()
    _check(
        library,
        library.nvrtcCreateProgram(
            ctypes.byref(program), text.encode(), f"{name}.cu".encode(), 0, None, None
        ),
    )
    try:
        options = (ctypes.c_char_p * 2)(f"--gpu-architecture={architecture}".encode(), b"--std=c++17")
        if library.nvrtcCompileProgram(program, len(options), options):
            raise CompilerError(
                f"{name}: {_told(library, program, 'ProgramLog').decode(errors='replace').strip()}"
            )
        return _told(library, program, "CUBIN")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _told(library: Any, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(library, getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    told = ctypes.create_string_buffer(size.value)
    _check(library, getattr(library, f"nvrtcGet{what}")(program, told))
    return told.raw


def _check(library: Any, result: int) -> None:
    if result:
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise CompilerError(f"NVRTC: {library.nvrtcGetErrorString(result).decode()}")


@cache
def compiler() -> Any:
    for name in COMPILERS:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            log.debug("no %s: %s", name, error)
    raise CompilerError(f"none of {', '.join(COMPILERS)} can be loaded")
