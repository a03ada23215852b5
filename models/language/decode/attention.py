"""Attention while prompts are read on an NVIDIA card: where the scores are few, matrix products rather than cuDNN.

MLX asks cuDNN for a plan for every new shape of queries, keys and mask. Prompts have every length, and a plan takes 58 ms
to make, a second where the mask is an array (H200), when reading a short prompt takes 8 ms. For products it is tens of
lengths that cost something when they are new, so `round_up` has prompts padded to few.
"""

import sys
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import base

from models.kernels.gpu import on_cuda

# Bytes of scores, beyond which a plan is worth its time: they are written and read some four times in each layer. Of a
# thousand tokens of 32 heads, products took 0.7 ms a layer where a plan that was made took 0.15 (H200).
CAUSAL, MASKED = 2**26, 2**30
SHORTEST = 16
# Steps that add fewer tokens have a kernel in MLX that needs no plan.
FEWEST = 4
LARGEST_HEAD = 128  # that cuDNN takes


def patch_attention(model: nn.Module) -> None:
    """Have the model's layers, whose modules look attention up by its name, find ours on a card."""
    if not on_cuda():
        return
    for name in {type(layer).__module__ for layer in model.modules()}:
        module = sys.modules[name]
        if getattr(module, "scaled_dot_product_attention", None) is base.scaled_dot_product_attention:
            module.scaled_dot_product_attention = attention  # type: ignore[attr-defined]


def length_bucket(length: int) -> int:
    """Lengths that are multiples of theirs are few: four between a power of two and the next."""
    return 1 << max(length.bit_length() - 3, 0)


def round_up(length: int) -> int:
    """The length that so many tokens are padded to."""
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
    """In mlx-lm's stead, with its arguments."""
    if sinks is None and not hasattr(cache, "bits") and plans(queries, keys, mask):
        return by_products(queries, keys, values, scale, mask)
    return base.scaled_dot_product_attention(
        queries, keys, values, cache=cache, scale=scale, mask=mask, sinks=sinks
    )


def plans(queries: mx.array, keys: mx.array, mask: mx.array | str | None) -> bool:
    """Whether cuDNN would be asked for a plan that the scores are too few for. Of whole prompts, which have few lengths,
    there are few plans."""
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
    """Scores are computed and weighed in float32, as the fused kernels do."""
    batch, heads, length, size = queries.shape
    shared, columns = keys.shape[1], keys.shape[2]
    group = heads // shared
    rows = (queries.astype(mx.float32) * scale).reshape(batch, shared, group * length, size)
    scores = rows @ keys.astype(mx.float32).swapaxes(-1, -2)
    scores = scores.reshape(batch, shared, group, length, columns)
    if isinstance(mask, str):
        mask = mx.arange(columns) <= mx.arange(columns - length, columns)[:, None]
    if mask is not None:
        mask = _beside_heads(mask, shared, group)
        # Not infinity: of a row of padding nothing is seen, and it must not become what is no number.
        lowest = mx.finfo(mx.float32).min
        scores = mx.where(mask, scores, lowest) if mask.dtype == mx.bool_ else scores + mask
    weights = mx.softmax(scores, axis=-1).astype(values.dtype)
    attended = weights.reshape(batch, shared, group * length, columns) @ values
    return attended.reshape(batch, heads, length, values.shape[-1])


def _beside_heads(mask: mx.array, shared: int, group: int) -> mx.array:
    """A mask of [row, head, query, key], or of its last axes, with the heads of the scores: […, shared, group, …]."""
    if mask.ndim < 3:
        return mask
    if mask.shape[-3] == 1:
        return mx.expand_dims(mask, -3)
    return mask.reshape(*mask.shape[:-3], shared, group, *mask.shape[-2:])
