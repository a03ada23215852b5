"""Attention over blocks by MLX's own operations: the path that runs anywhere, and what kernels are compared with.

A few tokens of each of many texts are multiplied with the blocks where they lie (`gather_mm`, `gather_qmm`): nothing is
copied or padded beyond a block. Longer runs, and half precision, whose scores must not be rounded, have their blocks
gathered for MLX's fused attention.
"""

from collections.abc import Sequence

import mlx.core as mx

from models.kernels import paged_attention, prompt_attention
from models.kernels.paged_attention import Shape
from models.language.decode.attention import attention, round_up
from models.language.paged.pool import KeyValuePool, Layer
from models.language.paged.step import FEW, Group, Step, View
from models.language.paged.table import BLOCK

Arrays = Sequence[mx.array]


def attend(
    queries: mx.array,
    pool: KeyValuePool,
    layer: int,
    step: Step,
    scale: float,
    window: int | None = None,
    sinks: mx.array | None = None,
    softcap: float | None = None,
    written: mx.array | None = None,
) -> mx.array:
    """`queries` [token, head, 1, channel] over the keys and values of their texts, those of this step included. `written`: the
    zero that writing these has returned, if they were written in place."""
    prompts = step.prompts
    if prompts is not None and of_prompts_by_kernel(queries, pool, layer):
        return prompt_attention.attention(
            queries[:, :, 0],
            pool.keys[layer],
            pool.values[layer],
            prompts.tables if written is None else prompts.tables + written,
            prompts.tiles(queries.shape[1] // pool.layers[layer].heads),
            scale,
            window=window,
            sinks=sinks,
            softcap=softcap,
        )[:, :, None]
    parts = []
    for group in step.groups:
        if not group.two_way and by_kernel(queries, pool, layer, group.count):
            parts.append(_by_kernel(queries, pool, layer, group, scale, window, sinks, softcap, written))
            continue
        mine, view = group.take(queries), group.view(window)
        if written is not None:
            view = View(view.tables + written, view.visible)
        if in_place(queries.dtype, pool.layers[layer], group.count):
            out = _in_place(mine, pool, layer, view, scale, sinks, softcap)
        else:
            out = _gathered(mine, pool, layer, group, view, scale, window, sinks, softcap)
        parts.append(out.swapaxes(1, 2).reshape(-1, out.shape[1], 1, out.shape[3]))
    if step.padding:
        parts.append(mx.zeros((step.padding, *parts[0].shape[1:]), parts[0].dtype))
    joined = parts[0] if len(parts) == 1 else mx.concatenate(parts)
    return joined if step.order is None else joined[step.order]


def of_prompts_by_kernel(queries: mx.array, pool: KeyValuePool, at: int) -> bool:
    """Whether the kernel for NVIDIA cards reads prompts, all texts together."""
    layer = pool.layers[at]
    if layer.key_size != layer.value_size or layer.dtype != queries.dtype:
        return False
    return prompt_attention.works(Shape.of(queries[:, :, 0], pool.keys[at]))


def by_kernel(queries: mx.array, pool: KeyValuePool, at: int, count: int) -> bool:
    """Whether the kernel for Metal and CUDA is used: for a few tokens of each text, where it works."""
    layer = pool.layers[at]
    if count > FEW or layer.key_size != layer.value_size or layer.dtype != queries.dtype:
        return False
    return paged_attention.works(Shape.of(queries[:, :, 0], pool.keys[at]))


def _by_kernel(
    queries: mx.array,
    pool: KeyValuePool,
    at: int,
    group: Group,
    scale: float,
    window: int | None,
    sinks: mx.array | None,
    softcap: float | None,
    written: mx.array | None,
) -> mx.array:
    mine = queries if group.rows is None else queries[mx.array(group.rows)]
    tables, ends = group.by_token
    out = paged_attention.attention(
        mine[:, :, 0],
        pool.keys[at],
        pool.values[at],
        tables,
        ends if written is None else ends + written,
        scale,
        window=window,
        sinks=sinks,
        softcap=softcap,
    )
    return out[:, :, None]


def in_place(dtype: mx.Dtype, layer: Layer, count: int) -> bool:
    return count <= FEW and (layer.bits is not None or dtype == layer.dtype == mx.float32)


def _in_place(
    queries: mx.array,
    pool: KeyValuePool,
    at: int,
    view: View,
    scale: float,
    sinks: mx.array | None,
    softcap: float | None,
) -> mx.array:
    layer = pool.layers[at]
    texts, heads, count, _ = queries.shape
    blocks, kv, group = view.tables.shape[1], layer.heads, heads // layer.heads
    rows = group * count
    by_head = count == 1 and view.short
    lhs, rhs, own = view.pairs_by_head(kv, group) if by_head else view.pairs(kv)
    scores = _product(
        layer,
        (queries * scale).reshape(-1, 1 if by_head else rows, queries.shape[-1]),
        pool.keys[at],
        lhs,
        rhs,
        True,
    )
    if not by_head:
        scores = scores.reshape(texts, blocks, kv, rows, BLOCK).transpose(0, 2, 3, 1, 4)
    scores = scores.reshape(texts, kv, group, count, blocks * BLOCK)
    weights = _weights(scores, view.hidden, sinks, softcap).astype(queries.dtype)
    if by_head:
        parts = _product(layer, weights.reshape(-1, 1, BLOCK), pool.values[at], own, rhs, False)
        return _summed(parts.reshape(texts, heads, blocks, -1), 2, queries.dtype)[:, :, None]
    weights = weights.reshape(texts, kv, rows, blocks, BLOCK).transpose(0, 3, 1, 2, 4)
    parts = _product(layer, weights.reshape(-1, rows, BLOCK), pool.values[at], own, rhs, False)
    out = _summed(parts.reshape(texts, blocks, kv * rows, -1), 1, queries.dtype)
    return out.reshape(texts, heads, count, -1)


def _summed(parts: mx.array, axis: int, dtype: mx.Dtype) -> mx.array:
    if parts.shape[axis] == 1:
        return parts.squeeze(axis)
    return parts.astype(mx.float32).sum(axis=axis).astype(dtype)


def _product(
    layer: Layer, x: mx.array, stored: Arrays, lhs: mx.array, rhs: mx.array, transpose: bool
) -> mx.array:
    """`x` with the block and head of the pool that `rhs` names for each matrix."""
    by_head = [array.reshape(-1, BLOCK, array.shape[-1]) for array in stored]
    if layer.bits is None:
        keys = by_head[0].swapaxes(-1, -2) if transpose else by_head[0]
        return mx.gather_mm(x, keys, lhs, rhs)
    packed, scales, biases = by_head
    return mx.gather_qmm(
        x, packed, scales, biases, lhs, rhs, transpose=transpose, group_size=layer.group, bits=layer.bits
    )


def _weights(scores: mx.array, hidden: mx.array, sinks: mx.array | None, softcap: float | None) -> mx.array:
    """The softmax of scores [text, kv head, query head of it, query, token]."""
    scores = scores.astype(mx.float32)
    if softcap is not None:
        scores = mx.tanh(scores / softcap) * softcap
    scores = scores + hidden
    if sinks is None:
        return mx.softmax(scores, axis=-1)
    shape = (*scores.shape[:-1], 1)
    sink = mx.broadcast_to(sinks.astype(mx.float32).reshape(1, *scores.shape[1:3], 1, 1), shape)
    return mx.softmax(mx.concatenate([scores, sink], axis=-1), axis=-1)[..., :-1]


def _gathered(
    queries: mx.array,
    pool: KeyValuePool,
    at: int,
    group: Group,
    view: View,
    scale: float,
    window: int | None,
    sinks: mx.array | None,
    softcap: float | None,
) -> mx.array:
    layer = pool.layers[at]
    keys = contiguous(layer, pool.keys[at], view.tables).astype(queries.dtype)
    values = contiguous(layer, pool.values[at], view.tables).astype(queries.dtype)
    if softcap is not None:
        return _capped(queries, keys, values, view.hidden, scale, sinks, softcap)
    if len(group.first) > 1 or group.two_way:
        return attention(queries, keys, values, None, scale, view.visible[:, 0], sinks)
    begin = 0 if window is None else max(int(group.first[0]) - window + 1, 0) // BLOCK
    hidden = window is not None and int(group.first[0]) + group.count - begin * BLOCK > window
    if hidden:
        mask = view.visible[:, 0]
        return attention(queries, keys, values, None, scale, mask, sinks)
    # One text: the causal mask of fused attention, which starts where the keys end.
    length = int(group.first[0]) + group.count - begin * BLOCK
    padding = min(round_up(group.count) - group.count, keys.shape[2] - length)
    if padding:
        queries = mx.pad(queries, [(0, 0), (0, 0), (0, padding), (0, 0)])
        length += padding
    causal = "causal" if queries.shape[2] > 1 else None
    out = attention(queries, keys[:, :, :length], values[:, :, :length], None, scale, causal, sinks)
    return out[:, :, : group.count]


def contiguous(layer: Layer, stored: Arrays, tables: mx.array) -> mx.array:
    """The blocks of tables [text, block] as [text, head, token, channel]."""
    parts = [array[tables] for array in stored]
    if layer.bits is not None:
        packed, scales, biases = parts
        parts = [mx.dequantize(packed, scales, biases, group_size=layer.group, bits=layer.bits)]
    return parts[0].swapaxes(1, 2).flatten(2, 3)


def _capped(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    hidden: mx.array,
    scale: float,
    sinks: mx.array | None,
    softcap: float,
) -> mx.array:
    texts, heads, count, size = queries.shape
    kv = keys.shape[1]
    rows = (queries * scale).reshape(texts, kv, -1, size)
    scores = (rows @ keys.swapaxes(-1, -2)).reshape(texts, kv, heads // kv, count, -1)
    weights = _weights(scores, hidden, sinks, softcap).astype(values.dtype)
    return (weights.reshape(texts, kv, -1, keys.shape[2]) @ values).reshape(texts, heads, count, -1)
