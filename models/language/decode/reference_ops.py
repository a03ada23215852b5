"""What a step of decoding is made of, in MLX's own operations: one new token a row.

`kernels` has the same functions for NVIDIA cards; these say what they compute.
"""

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from models.language.decode import matmul


class Columns(NamedTuple):
    """Of each slot's row: its first column in the caches, and the one that its new token takes; int32, [slot]."""

    starts: mx.array
    ends: mx.array


class HeadLayout(NamedTuple):
    """What a layer's projection holds: queries, keys, values, `size` channels a head; and what is done to them.
    `inv_freq` are radians a position, of each pair of channels."""

    size: int
    inv_freq: mx.array
    norm_q: mx.array | None
    norm_k: mx.array | None
    bias: mx.array | None
    eps: float


def sum_and_norm(h: mx.array, r: mx.array, weight: mx.array, eps: float) -> tuple[mx.array, mx.array]:
    """h + r, and its RMS norm; [row, channel]."""
    total = h + r
    return total, mx.fast.rms_norm(total, weight, eps)


def product(x: mx.array, w: mx.array, gated: bool = False) -> mx.array:
    """x W^T of [row, channel]; gated: the first half of what comes out under SiLU, times the second."""
    y = x @ w.T
    return gated_half(y) if gated else y


def quantized_product(x: mx.array, layer: nn.Module, gated: bool = False) -> mx.array:
    """The same by a quantized layer."""
    y = matmul.product(x, layer)
    return gated_half(y) if gated else y


def gated_half(y: mx.array) -> mx.array:
    half, up = mx.split(y, 2, axis=-1)
    return half * mx.sigmoid(half) * up


def heads(
    projected: mx.array, layout: HeadLayout, keys: mx.array, values: mx.array, columns: Columns
) -> tuple[mx.array, mx.array, mx.array]:
    """Queries, normed and rotated, [row, head, channel], and the caches with the keys and values in their column."""
    if layout.bias is not None:
        projected = projected + layout.bias
    rows, kv = projected.shape[0], keys.shape[1]
    split = projected.reshape(rows, -1, 1, layout.size)
    q, k, v = split[:, : -2 * kv], split[:, -2 * kv : -kv], split[:, -kv:]
    if layout.norm_q is not None:
        q = mx.fast.rms_norm(q, layout.norm_q, layout.eps)
    if layout.norm_k is not None:
        k = mx.fast.rms_norm(k, layout.norm_k, layout.eps)
    positions = columns.ends - columns.starts
    q, k = _rotated(q, layout.inv_freq, positions), _rotated(k, layout.inv_freq, positions)
    here = (mx.arange(keys.shape[2]) == columns.ends[:, None])[:, None, :, None]
    return q[:, :, 0], mx.where(here, k, keys), mx.where(here, v, values)


def _rotated(x: mx.array, inv_freq: mx.array, positions: mx.array) -> mx.array:
    angles = (positions.astype(mx.float32)[:, None] * inv_freq)[:, None, None]
    cosine, sine = mx.cos(angles), mx.sin(angles)
    low, high = mx.split(x.astype(mx.float32), 2, axis=-1)
    rotated = mx.concatenate([low * cosine - high * sine, low * sine + high * cosine], axis=-1)
    return rotated.astype(x.dtype)


def attention(
    queries: mx.array, keys: mx.array, values: mx.array, columns: Columns, splits: int, scale: float
) -> mx.array:
    """[row, head, channel] over the columns of each row. `splits` is the kernel's matter."""
    at = mx.arange(keys.shape[2], dtype=mx.int32)
    seen = (at >= columns.starts[:, None]) & (at <= columns.ends[:, None])
    mask = seen[:, None, None]
    return mx.fast.scaled_dot_product_attention(queries[:, :, None], keys, values, scale=scale, mask=mask)[
        :, :, 0
    ]


def splits(rows: int, kv_heads: int, length: int) -> int:
    return 1
