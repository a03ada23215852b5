"""The operations of a decoding step on NVIDIA cards: five kernels in place of about twenty of MLX's.

One new token per row. Each function has a counterpart in reference_ops that defines what it computes. The kernels work
in half precision and accumulate in float32. The head size is the only size among their template arguments, so a kernel
is compiled once per model, for all batch sizes and text lengths.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from models.kernels.nvrtc import cuda_kernel
from models.kernels.paged_attention import Parts, default_splits, pool_names
from models.kernels.paged_attention import attention as attention_over_blocks
from models.kernels.paged_source import STORE_QUANTIZED, STORE_WHOLE
from models.kernels.portable import CUDA, rendered
from models.language.decode import packed_matmul, reference_ops
from models.language.decode.kernel_sources import GIVEN, HEADS, NORMED, PRODUCT, SUM_AND_NORM
from models.language.decode.reference_ops import HeadLayout, Places, gated_half
from models.layers.fused import BLOCK, WARP

IN_PLACE = True  # pools are written to, and `heads` returns the arrays that it is given
FEW = 4  # rows that the product kernel is used for: with 8, cuBLAS was a third faster (H100)
WARPS = BLOCK // WARP
# Bytes of inputs that a block of threads may hold, and how many blocks may compute the same norm.
MOST_SHARED, MOST_NORMS = 40 * 2**10, 4096


def sum_and_norm(h: mx.array, r: mx.array, weight: mx.array, eps: float) -> tuple[mx.array, mx.array]:
    """h + r, and its RMS norm; [row, channel]."""
    kernel = _kernel("sum_and_norm", ("h", "r", "weight"), ("sum", "normed"), SUM_AND_NORM, eps)
    total, normed = kernel(
        inputs=[h, r, weight],
        template=[("T", h.dtype)],
        grid=(h.shape[0] * 512, 1, 1),
        threadgroup=(512, 1, 1),
        output_shapes=[h.shape, h.shape],
        output_dtypes=[h.dtype, h.dtype],
    )
    return total, normed


def product(x: mx.array, w: mx.array, gated: bool = False) -> mx.array:
    """x W^T, [row, channel]; gated: SiLU of the first half of the outputs, times the second half."""
    rows, outputs = x.shape[0], w.shape[0] // (2 if gated else 1)
    if rows > FEW or x.shape[1] % 8:
        y = x @ w.T
        return gated_half(y) if gated else y
    (y,) = _kernel("product", ("x", "w"), ("y",), PRODUCT.replace("INPUT", GIVEN))(
        inputs=[x, w],
        template=[("T", x.dtype), ("ROWS", _slots(rows)), ("GATED", gated)],
        grid=(_pair_blocks(outputs, gated) * BLOCK, 1, 1),
        threadgroup=(BLOCK, 1, 1),
        output_shapes=[(rows, outputs)],
        output_dtypes=[x.dtype],
    )
    return y


def normed_product(
    h: mx.array, r: mx.array, weight: mx.array, eps: float, w: mx.array, gated: bool = False
) -> tuple[mx.array, mx.array]:
    """h + r, and the product of its RMS norm."""
    (rows, width), outputs = h.shape, w.shape[0] // (2 if gated else 1)
    blocks, slots = _pair_blocks(outputs, gated), _slots(rows)
    if rows > FEW or width % 8 or slots * width * h.itemsize > MOST_SHARED or blocks > MOST_NORMS:
        total, normed = sum_and_norm(h, r, weight, eps)
        return total, product(normed, w, gated)
    kernel = _kernel(
        "normed_product", ("x", "r", "weight", "w"), ("sum", "y"), PRODUCT.replace("INPUT", NORMED), eps
    )
    total, y = kernel(
        inputs=[h, r, weight, w],
        template=[("T", h.dtype), ("ROWS", slots), ("GATED", gated), ("WIDTH", width)],
        grid=(blocks * BLOCK, 1, 1),
        threadgroup=(BLOCK, 1, 1),
        output_shapes=[h.shape, (rows, outputs)],
        output_dtypes=[h.dtype, h.dtype],
    )
    return total, y


def _slots(rows: int) -> int:
    """How many rows the product is compiled for; few."""
    return next((size for size in (1, 2) if size >= rows), FEW)


def _pair_blocks(outputs: int, gated: bool) -> int:
    """Blocks of threads, each of whose warps takes two rows of the weights."""
    return -(-(outputs if gated else -(-outputs // 2)) // WARPS)


def quantized_product(x: mx.array, layer: nn.Module, gated: bool = False) -> mx.array:
    """The same with a quantized layer."""
    if packed_matmul.takes(x.shape[0], layer, x.dtype):
        return packed_matmul.product(x, layer, gated)
    return reference_ops.quantized_product(x, layer, gated)


def heads(
    projected: mx.array, layout: HeadLayout, keys: Parts, values: Parts, places: Places
) -> tuple[mx.array, Parts, Parts]:
    """Normed and rotated queries, [row, head, channel], and the pools with the new keys and values, written in place."""
    rows, slots = projected.shape[0], projected.shape[1] // layout.size
    bits = keys[0].shape[-1] * 32 // layout.size if len(keys) > 1 else 0
    absent = layout.inv_freq  # stands in for arrays that a layer does not have
    inputs = {
        "projected": projected,
        **dict(zip(pool_names(keys), (*keys, *values), strict=True)),
        "inv_freq": layout.inv_freq,
        "norm_q": absent if layout.norm_q is None else layout.norm_q,
        "norm_k": absent if layout.norm_k is None else layout.norm_k,
        "bias": absent if layout.bias is None else layout.bias,
        "tables": places.tables,
        "ends": places.ends,
    }
    source = HEADS.replace("STORING", STORE_QUANTIZED if bits else STORE_WHOLE)
    (queries,) = _kernel("heads", tuple(inputs), ("queries",), rendered(source, CUDA), layout.eps)(
        inputs=list(inputs.values()),
        template=[
            ("T", projected.dtype),
            ("D", layout.size),
            ("BITS", bits),
            ("NORMED", layout.norm_q is not None),
            ("BIASED", layout.bias is not None),
        ],
        grid=(-(-rows * slots // WARPS) * BLOCK, 1, 1),
        threadgroup=(BLOCK, 1, 1),
        output_shapes=[(rows, slots - 2 * keys[0].shape[1], layout.size)],
        output_dtypes=[projected.dtype],
    )
    return queries, keys, values


def attention(
    queries: mx.array, keys: Parts, values: Parts, places: Places, splits: int, scale: float
) -> mx.array:
    """[row, head, channel] over the blocks of each row; `splits` threadgroups share the blocks of a head."""
    return attention_over_blocks(queries, keys, values, *places, scale, splits=splits)


def splits(rows: int, kv_heads: int, tokens: int) -> int:
    """How many threadgroups share a head's blocks."""
    return default_splits(rows * kv_heads, tokens)


def _kernel(name: str, inputs: tuple[str, ...], outputs: tuple[str, ...], source: str, eps: float = 0) -> Any:
    """`eps` replaces EPS in the source; it is part of the name, which kernels are cached by."""
    full_name = f"{name}_{eps:g}".translate(str.maketrans("-.+", "___"))
    return cuda_kernel(full_name, inputs, outputs, source.replace("EPS", f"{eps:.9e}f"))
