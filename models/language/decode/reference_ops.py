"""The operations of a decoding step, one new token per row, in MLX's own operations.

`kernels` has the same functions for NVIDIA cards; this module defines what they compute.
"""

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from models.kernels.paged_attention import Parts, plain
from models.language.decode import matmul

IN_PLACE = False  # `heads` returns new arrays


class Places(NamedTuple):
    """The blocks of each row, [row, …], and the position of its new token, [row]; int32. The position -1 is of padding, which
    may write to block 0 and is given any result."""

    tables: mx.array
    ends: mx.array


class HeadLayout(NamedTuple):
    """A layer's projection contains queries, keys and values with `size` channels per head; the rest is applied to them.
    `inv_freq`: radians per position of each pair of channels."""

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
    """x W^T, [row, channel]; gated: SiLU of the first half of the outputs, times the second half."""
    y = x @ w.T
    return gated_half(y) if gated else y


def normed_product(
    h: mx.array, r: mx.array, weight: mx.array, eps: float, w: mx.array, gated: bool = False
) -> tuple[mx.array, mx.array]:
    """h + r, and the product of its RMS norm."""
    total, normed = sum_and_norm(h, r, weight, eps)
    return total, product(normed, w, gated)


def quantized_product(x: mx.array, layer: nn.Module, gated: bool = False) -> mx.array:
    """The same with a quantized layer."""
    y = matmul.product(x, layer)
    return gated_half(y) if gated else y


def gated_half(y: mx.array) -> mx.array:
    half, up = mx.split(y, 2, axis=-1)
    return half * mx.sigmoid(half) * up


def heads(
    projected: mx.array, layout: HeadLayout, keys: Parts, values: Parts, places: Places
) -> tuple[mx.array, list[mx.array], list[mx.array]]:
    """Normed and rotated queries, [row, head, channel], and the pools with the new keys and values."""
    tokens, ends = keys[0].shape[2], mx.maximum(places.ends, 0)
    q, k, v = _split(projected, layout, keys[0].shape[1], ends)
    blocks = mx.take_along_axis(places.tables, (ends // tokens)[:, None], axis=1)[:, 0]
    blocks = mx.where(places.ends < 0, 0, blocks)
    keys, values = (
        _written(pool, new[:, :, 0], layout.size, blocks, ends % tokens) for pool, new in ((keys, k), (values, v))
    )  # fmt: skip
    return q[:, :, 0], keys, values


def _written(pool: Parts, new: mx.array, size: int, blocks: mx.array, offsets: mx.array) -> list[mx.array]:
    parts: Parts = [new]
    if len(pool) > 1:
        parts = mx.quantize(new, size // pool[1].shape[-1], pool[0].shape[-1] * 32 // size)
    written = [array[:] for array in pool]
    for array, part in zip(written, parts, strict=True):
        array[blocks, :, offsets] = part
    return written


def attention(
    queries: mx.array, keys: Parts, values: Parts, places: Places, splits: int, scale: float
) -> mx.array:
    """[row, head, channel] over the blocks of each row. `splits` only concerns the kernel."""
    return plain(queries, keys, values, *places, scale)


def _split(
    projected: mx.array, layout: HeadLayout, kv: int, positions: mx.array
) -> tuple[mx.array, mx.array, mx.array]:
    """Queries, keys and values, [row, head, 1, channel]; the first two normed and rotated."""
    if layout.bias is not None:
        projected = projected + layout.bias
    split = projected.reshape(projected.shape[0], -1, 1, layout.size)
    q, k, v = split[:, : -2 * kv], split[:, -2 * kv : -kv], split[:, -kv:]
    if layout.norm_q is not None:
        q = mx.fast.rms_norm(q, layout.norm_q, layout.eps)
    if layout.norm_k is not None:
        k = mx.fast.rms_norm(k, layout.norm_k, layout.eps)
    return _rotated(q, layout.inv_freq, positions), _rotated(k, layout.inv_freq, positions), v


def _rotated(x: mx.array, inv_freq: mx.array, positions: mx.array) -> mx.array:
    angles = (positions.astype(mx.float32)[:, None] * inv_freq)[:, None, None]
    cosine, sine = mx.cos(angles), mx.sin(angles)
    low, high = mx.split(x.astype(mx.float32), 2, axis=-1)
    rotated = mx.concatenate([low * cosine - high * sine, low * sine + high * cosine], axis=-1)
    return rotated.astype(x.dtype)


def splits(rows: int, kv_heads: int, length: int) -> int:
    return 1
