"""Kernels whose source is one text for Metal and CUDA.

    kernel = portable_kernel("twice", ("x",), ("y",), "if (THREAD < x_shape[0]) y[THREAD] = x[THREAD] + x[THREAD];")
    (y,) = kernel(inputs=[x], template=[("T", x.dtype)], grid=…, threadgroup=…, output_shapes=…, output_dtypes=…)

The text is the body of a function. WORDS has what it writes in place of words that differ; everything else is C++ that both
compilers accept: no lambdas, and pointers into inputs and outputs are `const DEVICE T*`. Simdgroups (warps) have 32 threads.
"""

from typing import Any

import mlx.core as mx

from models.kernels.gpu import on_cuda, on_gpu
from models.kernels.nvrtc import cuda_kernel

# Each word with its meaning on Metal and on CUDA. LOAD copies eight numbers, at an address that they divide.
WORDS = {
    "DEVICE": ("device", ""),
    "SHARED": ("threadgroup", "__shared__"),
    "BARRIER": ("threadgroup_barrier(mem_flags::mem_threadgroup)", "__syncthreads()"),
    "THREAD": ("int(thread_position_in_threadgroup.x)", "int(threadIdx.x)"),
    "GROUP_X": ("int(threadgroup_position_in_grid.x)", "int(blockIdx.x)"),
    "GROUP_Y": ("int(threadgroup_position_in_grid.y)", "int(blockIdx.y)"),
    "GROUPS_Y": ("int(threadgroups_per_grid.y)", "int(gridDim.y)"),
    "SHUFFLE_XOR(x, step)": ("simd_shuffle_xor(x, ushort(step))", "__shfl_xor_sync(0xffffffffu, x, step)"),
    "EXP2(x)": ("metal::exp2(x)", "exp2f(x)"),
    "TANH(x)": ("metal::tanh(x)", "tanhf(x)"),
    "EIGHT": ("struct Eight { T at[8]; };", "struct alignas(16) Eight { T at[8]; };"),
    "LOAD(to, from)": (
        "for (int each = 0; each < 8; each++) to.at[each] = (from)[each]",
        "to = *reinterpret_cast<const Eight*>(from)",
    ),
}
METAL, CUDA = 0, 1


def rendered(body: str, language: int) -> str:
    """The body for METAL or CUDA."""
    return "\n" + "".join(f"#define {word} {meaning[language]}\n" for word, meaning in WORDS.items()) + body


def on_metal() -> bool:
    return on_gpu() and bool(mx.metal.is_available())


def runs_here() -> bool:
    return on_metal() or on_cuda()


def portable_kernel(name: str, inputs: tuple[str, ...], outputs: tuple[str, ...], body: str) -> Any:
    if on_metal():
        return mx.fast.metal_kernel(
            name=name, input_names=list(inputs), output_names=list(outputs), source=rendered(body, METAL)
        )
    return cuda_kernel(name, inputs, outputs, rendered(body, CUDA))
