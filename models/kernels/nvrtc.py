"""Custom kernels for NVIDIA cards, compiled once and cached on disk: MLX caches only its own.

    kernel = cuda_kernel("twice", ["x"], ["y"], "…")     # the body of a function, as mx.fast.cuda_kernel takes it
    (y,) = kernel(inputs=[x], template=[("T", x.dtype)], grid=…, threadgroup=…, output_shapes=…, output_dtypes=…)

`x_shape[1]` in the source is passed with each call; `template` is compiled in. The source includes no headers, so compiling
takes a moment instead of the seconds that MLX's headers take. Where NVRTC cannot be loaded, MLX compiles.
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

from models.kernels import CACHE_VARIABLE

log = logging.getLogger("diptych.kernels")

Template: TypeAlias = Sequence[tuple[str, Any]]

OLDEST = 80  # first architecture whose tensor cores support bfloat16
COMPILERS = ("libnvrtc.so.13", "libnvrtc.so.12")  # whichever is installed with MLX
SHAPE = re.compile(r"\b(\w+)_shape\[(\d+)\]")
TYPES = {
    mx.bfloat16: "bfloat16", mx.float16: "float16", mx.float32: "float", mx.int32: "int", mx.uint32: "unsigned",
}  # fmt: skip
# Half precision without a header: bits and conversions.
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
    """NVRTC cannot be loaded or does not accept a kernel; the message is its own."""


class Kernel:
    """Compiled for each template and combination of input dtypes that it is called with."""

    def __init__(self, name: str, inputs: Sequence[str], outputs: Sequence[str], source: str) -> None:
        self._name, self._inputs, self._outputs = name, tuple(inputs), tuple(outputs)
        self._sizes = sorted({(match[1], int(match[2])) for match in SHAPE.finditer(source)})
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
        kernel_name, code = self._compiled[key]
        shapes = {name: x.shape for name, x in zip(self._inputs, inputs, strict=True)}
        return mx.fast.precompiled_cuda_kernel(
            name=kernel_name,
            compiled_source=code,
            inputs=inputs,
            output_shapes=output_shapes,
            output_dtypes=output_dtypes,
            scalars=[shapes[name][axis] for name, axis in self._sizes],
            grid=grid,
            threadgroup=threadgroup,
            ensure_row_contiguous=True,
        )

    def text(self, template: Template, inputs: Sequence[mx.Dtype], outputs: Sequence[mx.Dtype]) -> str:
        """The complete source; NAME is a placeholder for the function's name."""
        arguments = [
            *(f"const {TYPES[kind]}* {name}" for name, kind in zip(self._inputs, inputs, strict=True)),
            *(f"{TYPES[kind]}* {name}" for name, kind in zip(self._outputs, outputs, strict=True)),
            *(f"const int {name}_{axis}" for name, axis in self._sizes),
        ]
        constants = "".join(_constant(name, value) for name, value in template)
        head = f'{PRELUDE}extern "C" __global__ void NAME({", ".join(arguments)}) {{\n'
        return f"{head}{constants}{self._body}\n}}\n"


def _constant(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"constexpr bool {name} = {str(value).lower()};\n"
    if isinstance(value, int):
        return f"constexpr int {name} = {value};\n"
    return f"using {name} = {TYPES[value]};\n"


@cache
def cuda_kernel(name: str, inputs: tuple[str, ...], outputs: tuple[str, ...], source: str) -> Any:
    """A kernel, compiled by Diptych where that works, else by MLX."""
    if usable():
        return Kernel(name, inputs, outputs, source)
    return mx.fast.cuda_kernel(name=name, input_names=list(inputs), output_names=list(outputs), source=source)


@cache
def usable() -> bool:
    """Whether a kernel compiled by Diptych runs. The first call must come before anything is traced."""
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
    except Exception as error:  # MLX's call is experimental and may raise anything
        reason = error
    log.warning("custom kernels are compiled by MLX, anew in each process: %s", reason)
    return False


@cache
def architecture() -> str:
    return str(mx.device_info()["architecture"])


def has_tensor_cores() -> bool:
    """Whether they support bfloat16."""
    number = architecture().removeprefix("sm_").rstrip("af")
    return number.isdecimal() and int(number) >= OLDEST


def compiled(name: str, text: str, architecture: str) -> bytes:
    """Code for the card, from the cache, or compiled and cached."""
    folder = os.environ.get(CACHE_VARIABLE)
    path = Path(folder) / f"{name}_{architecture}.cubin" if folder else None
    try:
        if path is not None and path.exists():
            return path.read_bytes()
    except OSError as error:
        log.debug("the cached kernel %s cannot be read: %s", path, error)
    code = _compile(name, text, architecture)
    if path is not None:
        _cache(path, code)
    return code


def _cache(path: Path, code: bytes) -> None:
    """Atomically: another process may be reading."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(code)
        os.replace(file.name, path)
    except OSError as error:
        log.debug("the kernel %s is not cached: %s", path, error)


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
                f"{name}: {_output(library, program, 'ProgramLog').decode(errors='replace').strip()}"
            )
        return _output(library, program, "CUBIN")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _output(library: Any, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(library, getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    output = ctypes.create_string_buffer(size.value)
    _check(library, getattr(library, f"nvrtcGet{what}")(program, output))
    return output.raw


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
            log.debug("%s cannot be loaded: %s", name, error)
    raise CompilerError(f"none of {', '.join(COMPILERS)} can be loaded")
