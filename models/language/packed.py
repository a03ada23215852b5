"""Products of the rows of a few texts by packed weights, on NVIDIA cards.

MLX's kernel for few rows reads weights again for each, and the one for eight and more takes 9.5 ms of a token of eight rows
of a model of four billion weights (H100); unpacking them takes longer.
"""

import mlx.core as mx
import mlx.nn as nn

from models import cuda
from models.fused import BLOCK, WARP
from models.language.packed_source import QUANTIZED_PRODUCT

MOST = 32  # rows
OLDEST = 80  # architecture whose tensor cores take bfloat16
TILE = 8
WARPS = BLOCK // WARP
CHUNK = {4: 64, 8: 32}  # channels that a warp takes at a time, by bits
HALVES = (mx.bfloat16, mx.float16)


def takes(rows: int, layer: nn.Module, dtype: mx.Dtype) -> bool:
    """Whether the kernel does it, on a card."""
    return rows <= MOST and fits(layer, dtype) and has_tensor_cores()


def has_tensor_cores() -> bool:
    number = cuda.architecture().removeprefix("sm_").rstrip("af")
    return number.isdecimal() and int(number) >= OLDEST


def fits(layer: nn.Module, dtype: mx.Dtype) -> bool:
    """Whether the kernel is for weights that are packed so."""
    if (
        layer.mode != "affine"
        or layer.bits not in CHUNK
        or dtype not in HALVES
        or layer["scales"].dtype != dtype
    ):
        return False
    return bool(layer["scales"].shape[1] * layer.group_size % CHUNK[layer.bits] == 0)


def product(x: mx.array, layer: nn.Module, gated: bool = False) -> mx.array:
    """x W^T of [row, channel]; gated: the first half of what comes out under SiLU, times the second."""
    packed, dtype = layer["weight"], x.dtype
    rows, outputs = x.shape[0], packed.shape[0] // (2 if gated else 1)
    kernel = cuda.cuda_kernel("quantized_product", ("x", "w", "scales", "biases"), ("y",), QUANTIZED_PRODUCT)
    (y,) = kernel(
        inputs=[x, packed, layer["scales"], layer["biases"]],
        template=[
            ("T", dtype), ("HALF", dtype == mx.float16), ("GATED", gated), ("BITS", layer.bits),
            ("GROUP", layer.group_size), ("WARPS", WARPS), ("TILES", -(-rows // TILE)),
        ],
        grid=(-(-outputs // (8 if gated else 16)) * BLOCK, 1, 1),
        threadgroup=(BLOCK, 1, 1),
        output_shapes=[(rows, outputs)],
        output_dtypes=[dtype],
    )  # fmt: skip
    return y
