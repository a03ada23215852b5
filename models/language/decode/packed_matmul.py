"""Matrix products of a few rows with packed (quantized) weights on NVIDIA cards.

MLX's kernel for few rows reads the weights again for each row. Its kernel for eight rows or more takes 9.5 ms per step of
eight rows for a model with four billion weights (H100), and unpacking the weights takes longer.
"""

from collections.abc import Iterator

import mlx.core as mx
import mlx.nn as nn

from models.kernels import nvrtc
from models.kernels.checked import HALVES, Case, CheckedKernel
from models.language.decode.packed_matmul_source import QUANTIZED_PRODUCT
from models.layers.fused import BLOCK, WARP

MOST = 32  # rows
TILE = 8
WARPS = BLOCK // WARP
CHUNK = {4: 64, 8: 32}  # channels per warp and iteration, by bits


def takes(rows: int, layer: nn.Module, dtype: mx.Dtype) -> bool:
    """Whether the kernel can be used, on a card."""
    return rows <= MOST and fits(layer, dtype) and QUANTIZED_ROWS.works(dtype)


def fits(layer: nn.Module, dtype: mx.Dtype) -> bool:
    """Whether the kernel supports this layer's quantization."""
    if (
        layer.mode != "affine"
        or layer.bits not in CHUNK
        or dtype not in HALVES
        or layer["scales"].dtype != dtype
    ):
        return False
    return bool(layer["scales"].shape[1] * layer.group_size % CHUNK[layer.bits] == 0)


def product(x: mx.array, layer: nn.Module, gated: bool = False) -> mx.array:
    """x W^T, [row, channel]; gated: SiLU of the first half of the outputs, times the second half."""
    packed, dtype = layer["weight"], x.dtype
    rows, outputs = x.shape[0], packed.shape[0] // (2 if gated else 1)
    kernel = nvrtc.cuda_kernel("quantized_product", ("x", "w", "scales", "biases"), ("y",), QUANTIZED_PRODUCT)
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


def _cases(dtype: mx.Dtype) -> Iterator[Case]:
    """One and two tiles of rows; outputs that are not a multiple of a block."""
    for bits, group in ((4, 64), (8, 64)):
        layer = nn.QuantizedLinear(256, 44, bias=False, group_size=group, bits=bits)
        layer.set_dtype(dtype)
        scales, biases = layer["scales"].astype(mx.float32), layer["biases"].astype(mx.float32)
        weight = mx.dequantize(layer["weight"], scales, biases, group, bits)
        for rows in (3, 12):
            x = mx.random.normal((rows, 256), key=mx.random.key(rows)).astype(dtype)
            plain = x.astype(mx.float32) @ weight.T
            yield product(x, layer), plain
            half, up = mx.split(plain, 2, axis=-1)
            yield product(x, layer, gated=True), half * mx.sigmoid(half) * up


QUANTIZED_ROWS = CheckedKernel("quantized_product", nvrtc.has_tensor_cores, HALVES, _cases)
