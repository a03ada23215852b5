"""Runs the source of a Metal or CUDA kernel on the processor: compiled as C++ with stand-ins for the few built-in names, each
thread of a threadgroup a fiber. Fibers take turns in random order, so a missing barrier shows; one that only some reach is
an error."""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from models.kernels import nvrtc, portable
from models.kernels.gpu import on_cuda
from models.kernels.portable import rendered

# A card runs the kernels themselves, and the emulator reads arrays in the processor's memory.
COMPILER = None if on_cuda() else shutil.which("g++")
ATTRIBUTE = re.compile(r" ?\[\[.*?\]\]")
Text: TypeAlias = Callable[..., str]
Array: TypeAlias = NDArray[Any]

STAND_INS = r"""
#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstring>
#include <random>
#include <ucontext.h>
#include <vector>
using std::abs; using std::max; using std::min; using std::round; using std::rint;
struct bfloat16_t {
    uint16_t bits;
    bfloat16_t() = default;
    explicit bfloat16_t(float x) {
        uint32_t u; memcpy(&u, &x, 4);
        bits = (u & 0x7fffffffu) > 0x7f800000u ? 0x7fff : (u + 0x7fffu + ((u >> 16) & 1)) >> 16;
    }
    operator float() const { uint32_t u = uint32_t(bits) << 16; float x; memcpy(&x, &u, 4); return x; }
};
typedef bfloat16_t bfloat16;
typedef _Float16 float16_t;
typedef _Float16 float16;
typedef unsigned short ushort;
typedef unsigned uint;
struct uint3 { unsigned x, y, z; };

constexpr int SIMD = 32;
struct Waiting { int arrived = 0; long passed = 0; };
struct Fiber { ucontext_t entry; jmp_buf left; bool begun, ended; };
static std::vector<Fiber> fibers;
static ucontext_t main_entry;
static jmp_buf scheduler;
static int current, threads;
static long moves;
static Waiting all;
static Waiting simdgroups[64];
static uint32_t lanes[64][SIMD];
static uint3 thread_index, group_index, group_count;

static void wait(Waiting& at, int count) {
    const long mine = at.passed;
    if (++at.arrived == count) { at.arrived = 0; at.passed++; moves++; return; }
    while (at.passed == mine)
        if (!_setjmp(fibers[current].left)) _longjmp(scheduler, 1);
}
static void barrier() { wait(all, threads); }
template <class X> X shuffle_xor(X x, int step) {
    const int group = thread_index.x / SIMD, lane = thread_index.x % SIMD;
    memcpy(&lanes[group][lane], &x, 4);
    wait(simdgroups[group], SIMD);
    X other; memcpy(&other, &lanes[group][lane ^ step], 4);
    wait(simdgroups[group], SIMD);
    return other;
}
struct Pointer { void* to; template <class X> operator X*() const { return (X*)to; } };
"""
METAL = r"""
#define device
#define constant
#define threadgroup static
#define simd_shuffle_xor shuffle_xor
namespace metal { using std::exp2; using std::tanh; }
enum class mem_flags { mem_threadgroup };
static void threadgroup_barrier(mem_flags) { barrier(); }
"""
CUDA = r"""
#define __global__
#define __shared__ static
#define __syncthreads barrier
#define __shfl_xor_sync(mask, x, step) shuffle_xor(x, step)
#define threadIdx thread_index
#define blockIdx group_index
#define blockDim (uint3{unsigned(threads), 1, 1})
#define gridDim group_count
static float rsqrtf(float x) { return 1 / std::sqrt(x); }
#define __sincosf fast_sincos
static void fast_sincos(float x, float* sine, float* cosine) { *sine = std::sin(x); *cosine = std::cos(x); }
"""
RUN = r"""
static void** buffers;
static const int* numbers;
static void body() {
    CALL;
    fibers[current].ended = true;
    _longjmp(scheduler, 1);
}
extern "C" int run(void** given, const int* scalars, int gx, int gy, int count) {
    buffers = given; numbers = scalars; threads = count;
    group_count = uint3{unsigned(gx), unsigned(gy), 1};
    std::mt19937 random(7);
    std::vector<std::vector<char>> stacks(count, std::vector<char>(1 << 16));
    std::vector<int> order(count);
    for (int i = 0; i < count; i++) order[i] = i;
    for (int group = 0; group < gx * gy; group++) {
        group_index = uint3{unsigned(group % gx), unsigned(group / gx), 0};
        fibers.assign(count, Fiber{});
        all = Waiting{};
        for (auto& one : simdgroups) one = Waiting{};
        for (int i = 0; i < count; i++) {
            ucontext_t& entry = fibers[i].entry;
            getcontext(&entry);
            entry.uc_stack.ss_sp = stacks[i].data();
            entry.uc_stack.ss_size = stacks[i].size();
            makecontext(&entry, body, 0);
        }
        for (int left = count; left;) {
            const long before = moves; const int start = left;
            std::shuffle(order.begin(), order.end(), random);
            for (int i : order) {
                if (fibers[i].ended) continue;
                current = i;
                thread_index = uint3{unsigned(i), 0, 0};
                if (!_setjmp(scheduler)) {
                    if (fibers[i].begun) _longjmp(fibers[i].left, 1);
                    fibers[i].begun = true;
                    swapcontext(&main_entry, &fibers[i].entry);
                }
                left -= fibers[current].ended;
            }
            if (moves == before && left == start) return 1;
        }
    }
    return 0;
}
"""
BUILT_IN = {
    "thread_position_in_threadgroup": "thread_index",
    "threadgroup_position_in_grid": "group_index",
    "threadgroups_per_grid": "group_count",
}


class Emulated:
    """Called like the kernels of MLX."""

    def __init__(self, text: Text, inputs: Sequence[str], outputs: Sequence[str], folder: Path) -> None:
        self._text, self._names, self._folder = text, (*inputs, *outputs), folder

    def __call__(
        self,
        *,
        inputs: Sequence[mx.array],
        template: Sequence[tuple[str, Any]],
        output_shapes: Sequence[tuple[int, ...]],
        output_dtypes: Sequence[mx.Dtype],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
    ) -> list[mx.array]:
        text = self._text(inputs=inputs, template=template, output_shapes=output_shapes, output_dtypes=output_dtypes,
                          grid=grid, threadgroup=threadgroup)  # fmt: skip
        outputs = [_poison(shape, kind) for shape, kind in zip(output_shapes, output_dtypes, strict=True)]
        kinds = [x.dtype for x in (*inputs, *outputs)]
        arrays = dict(zip(self._names, map(_raw, (*inputs, *outputs)), strict=True))
        call, buffers, numbers = _call(text, arrays)
        library = _library(text, call, self._folder)
        pointers = (ctypes.c_void_p * len(buffers))(*(x.ctypes.data for x in buffers))
        scalars = (ctypes.c_int * len(numbers))(*numbers)
        if library.run(pointers, scalars, grid[0] // threadgroup[0], grid[1], threadgroup[0]):
            raise RuntimeError("some threads wait for others that do not come")
        results = [_back(x, kind) for x, kind in zip(arrays.values(), kinds, strict=True)]
        for x, after in zip(inputs, results, strict=False):
            x[...] = after  # in place, as a kernel writes to its inputs
        return results[len(inputs) :]


def metal_text(kernel: Any) -> Text:
    """What MLX compiles for a Metal kernel: it prints that, without a Mac too, when a call is exported."""

    def text(*, inputs: Sequence[mx.array], **more: Any) -> str:
        with tempfile.TemporaryFile() as file:
            kept = os.dup(1)
            os.dup2(file.fileno(), 1)
            try:
                mx.export_function(
                    lambda _: None, lambda *x: kernel(inputs=list(x), verbose=True, **more), *inputs
                )
            finally:
                os.dup2(kept, 1)
                os.close(kept)
            file.seek(0)
            return METAL + file.read().decode().split("```")[1]

    return text


def cuda_text(name: str, inputs: Sequence[str], outputs: Sequence[str], source: str) -> Text:
    """What NVRTC compiles, without its definitions of half precision."""
    kernel = nvrtc.Kernel(name, inputs, outputs, source)

    def text(
        *, inputs: Sequence[mx.array], template: Any, output_dtypes: Sequence[mx.Dtype], **_: Any
    ) -> str:
        whole = kernel.text(template, [x.dtype for x in inputs], output_dtypes)
        return CUDA + whole.removeprefix(nvrtc.PRELUDE)

    return text


def _call(text: str, arrays: dict[str, Array]) -> tuple[str, list[Array], list[int]]:
    """The call of the kernel in C++, and the arrays and numbers that it is given."""
    found = re.search(r"(?:\[\[kernel\]\]|__global__) void (\w+)\((.*?)\) \{", text, re.DOTALL)
    assert found is not None
    arguments, buffers, numbers = [], [], []
    for parameter in ATTRIBUTE.sub("", found[2]).split(","):
        name = re.split(r"[\s*&]+", parameter.strip())[-1]
        shaped = re.fullmatch(r"(\w+)_(\d+)", name)
        if name in BUILT_IN:
            arguments.append(BUILT_IN[name])
        elif name in arrays or name.endswith("_shape"):
            arguments.append(f"Pointer{{buffers[{len(buffers)}]}}")
            shape = arrays.get(name.removesuffix("_shape"))
            assert shape is not None
            buffers.append(arrays[name] if name in arrays else np.array(shape.shape, np.int32))
        else:
            assert shaped is not None, parameter
            arguments.append(f"numbers[{len(numbers)}]")
            numbers.append(arrays[shaped[1]].shape[int(shaped[2])])
    constants = re.search(rf"decltype\({found[1]}(<.*>)\)", text)
    return f"{found[1]}{constants[1] if constants else ''}({', '.join(arguments)})", buffers, numbers


def _library(text: str, call: str, folder: Path) -> Any:
    text = re.sub(r"\ntemplate decltype.*;", "", ATTRIBUTE.sub("", text))
    source = STAND_INS + text + RUN.replace("CALL", call)
    path = folder / hashlib.sha256(source.encode()).hexdigest()[:16]
    if not path.with_suffix(".so").exists():
        path.with_suffix(".cpp").write_text(source)
        command = [str(COMPILER), "-std=c++17", "-O1", "-w", "-shared", "-fPIC"]
        files = [str(path.with_suffix(".cpp")), "-o", str(path.with_suffix(".so"))]
        done = subprocess.run([*command, *files], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[:3000]
    return ctypes.CDLL(str(path.with_suffix(".so")))


def _poison(shape: tuple[int, ...], kind: mx.Dtype) -> mx.array:
    return mx.full(shape, float("nan") if mx.issubdtype(kind, mx.floating) else 77, kind)


def _raw(x: mx.array) -> Array:
    return np.array(x.view(mx.uint16) if x.dtype == mx.bfloat16 else x)


def _back(x: Array, kind: mx.Dtype) -> mx.array:
    return mx.array(x).view(mx.bfloat16) if kind == mx.bfloat16 else mx.array(x)


def emulated_metal(folder: Path) -> Callable[..., Emulated]:
    """In place of `portable_kernel`; compiled libraries go to the folder."""

    def kernel(name: str, inputs: tuple[str, ...], outputs: tuple[str, ...], body: str) -> Emulated:
        source = rendered(body, portable.METAL)
        made = mx.fast.metal_kernel(
            name=name, input_names=list(inputs), output_names=list(outputs), source=source
        )
        return Emulated(metal_text(made), inputs, outputs, folder)

    return kernel


def emulated_cuda(folder: Path, render: bool = True) -> Callable[..., Emulated]:
    """In place of `portable_kernel`, or of `cuda_kernel` if nothing is to be rendered."""

    def kernel(name: str, inputs: tuple[str, ...], outputs: tuple[str, ...], body: str) -> Emulated:
        source = rendered(body, portable.CUDA) if render else body
        return Emulated(cuda_text(name, inputs, outputs, source), inputs, outputs, folder)

    return kernel
