"""Attention in mlx-lm's networks: over blocks, if the cache is of blocks, and on NVIDIA cards by matrix products instead of
cuDNN if there are few scores.

MLX makes a cuDNN plan for every new shape of queries, keys and mask. A plan takes 58 ms, or a second if the mask is an
array (H200), while the prefill of a short prompt takes 8 ms, and prompts have all lengths. Matrix products only have a
one-time cost for some tens of lengths, so `round_up` pads prompts to few lengths.
"""

import sys
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import base

from models.kernels.gpu import on_cuda

# Bytes of scores beyond which a plan is worth its time: scores are written and read about four times per layer. For a
# thousand tokens and 32 heads, products took 0.7 ms per layer, an existing plan 0.15 ms (H200).
CAUSAL, MASKED = 2**26, 2**30
SHORTEST = 16
# For fewer new tokens MLX has a kernel that needs no plan.
FEWEST = 4
LARGEST_HEAD = 128  # supported by cuDNN


def patch_attention(model: nn.Module) -> None:
    """Replace attention in the modules of the model's layers, which look it up by name."""
    for name in {type(layer).__module__ for layer in model.modules()}:
        module = sys.modules[name]
        if getattr(module, "scaled_dot_product_attention", None) is base.scaled_dot_product_attention:
            module.scaled_dot_product_attention = attention  # type: ignore[attr-defined]


def length_bucket(length: int) -> int:
    """The step between padded lengths: there are four lengths between a power of two and the next."""
    return 1 << max(length.bit_length() - 3, 0)


def round_up(length: int) -> int:
    """The length that `length` tokens are padded to."""
    if not (length and on_cuda()):
        return length
    step = max(SHORTEST, length_bucket(length))
    return -(-length // step) * step


def attention(
    queries: mx.array,
    keys: Any,
    values: Any,
    cache: Any,
    scale: float,
    mask: mx.array | str | None,
    sinks: mx.array | None = None,
) -> mx.array:
    """Replaces mlx-lm's scaled_dot_product_attention, with the same arguments."""
    if hasattr(cache, "attend"):
        attended: mx.array = cache.attend(queries, scale, mask, sinks)
        return attended
    if on_cuda() and sinks is None and not hasattr(cache, "bits") and avoids_plan(queries, keys, mask):
        return by_products(queries, keys, values, scale, mask)
    return base.scaled_dot_product_attention(
        queries, keys, values, cache=cache, scale=scale, mask=mask, sinks=sinks
    )


def avoids_plan(queries: mx.array, keys: mx.array, mask: mx.array | str | None) -> bool:
    """Whether there are too few scores for a cuDNN plan to pay off. Whole prompts are padded to few lengths and need few
    plans."""
    batch, heads, length, size = queries.shape
    masked = isinstance(mask, mx.array)
    if isinstance(mask, str) and length == keys.shape[2] == round_up(length):
        return False
    if size > LARGEST_HEAD or queries.dtype == mx.float32 or length < (2 if masked else FEWEST):
        return False
    return bool(4 * batch * heads * length * keys.shape[2] <= (MASKED if masked else CAUSAL))


def by_products(
    queries: mx.array, keys: mx.array, values: mx.array, scale: float, mask: mx.array | str | None
) -> mx.array:
    """Scores and softmax are computed in float32, as in the fused kernels."""
    batch, heads, length, size = queries.shape
    shared, columns = keys.shape[1], keys.shape[2]
    group = heads // shared
    rows = (queries.astype(mx.float32) * scale).reshape(batch, shared, group * length, size)
    scores = rows @ keys.astype(mx.float32).swapaxes(-1, -2)
    scores = scores.reshape(batch, shared, group, length, columns)
    if isinstance(mask, str):
        mask = mx.arange(columns) <= mx.arange(columns - length, columns)[:, None]
    if mask is not None:
        mask = _split_mask_heads(mask, shared, group)
        # Not infinity: a row of padding sees no keys, and must not become NaN.
        lowest = mx.finfo(mx.float32).min
        scores = mx.where(mask, scores, lowest) if mask.dtype == mx.bool_ else scores + mask
    weights = mx.softmax(scores, axis=-1).astype(values.dtype)
    attended = weights.reshape(batch, shared, group * length, columns) @ values
    return attended.reshape(batch, heads, length, values.shape[-1])


def _split_mask_heads(mask: mx.array, shared: int, group: int) -> mx.array:
    """A mask [row, head, query, key], or its last axes, with its heads split like the scores': […, shared, group, …]."""
    if mask.ndim < 3:
        return mask
    if mask.shape[-3] == 1:
        return mx.expand_dims(mask, -3)
    return mask.reshape(*mask.shape[:-3], shared, group, *mask.shape[-2:])
