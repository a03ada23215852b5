"""Attention in both directions: to all tokens of a text, or to those within a window, and never to padding."""

import mlx.core as mx

from models.layers.attention import CHUNK, on_cpu, softmax_attention
from models.layers.basic import attention

# Queries at a time where a processor attends within a window: it holds the scores of all of them.
QUERIES = 128


def attend(
    q: mx.array, k: mx.array, v: mx.array, lengths: mx.array | None, window: int | None = None
) -> mx.array:
    """Attention of [batch, heads, length, head_dim]. Of each row the first `lengths` tokens count; None: all of them.
    `window`: the distance that a token sees in either direction."""
    length, scale = q.shape[2], q.shape[-1] ** -0.5
    if window is not None and window >= length - 1:
        window = None
    if lengths is None and window is None:
        few = q.shape[0] * q.shape[1] * length * length * q.itemsize <= CHUNK
        return attention(q, k, v) if few else softmax_attention(q, k, v, scale)
    if lengths is None and window is not None and on_cpu():
        return _within(q, k, v, scale, window)
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=_visible(length, lengths, window))


def _visible(length: int, lengths: mx.array | None, window: int | None) -> mx.array:
    """A mask [batch or 1, 1, length or 1, length]. Rows of padding see what others see: their result is not used."""
    positions = mx.arange(length)
    masks = []
    if lengths is not None:
        masks.append((positions[None] < lengths[:, None])[:, None, None])
    if window is not None:
        # A row of padding beyond the window of all text sees itself: a softmax over nothing would be NaN.
        masks.append((mx.abs(positions[:, None] - positions[None]) <= window)[None, None])
    visible = masks[0]
    for mask in masks[1:]:
        visible = (visible & mask) | mx.eye(length, dtype=mx.bool_)
    return visible


def _within(q: mx.array, k: mx.array, v: mx.array, scale: float, window: int) -> mx.array:
    """Some queries at a time, with the keys in their reach."""
    length = q.shape[2]
    chunks = []
    for first in range(0, length, QUERIES):
        last = min(first + QUERIES, length)
        begin, end = max(first - window, 0), min(last + window, length)
        distance = mx.arange(first, last)[:, None] - mx.arange(begin, end)[None]
        chunk = mx.fast.scaled_dot_product_attention(
            q[:, :, first:last],
            k[:, :, begin:end],
            v[:, :, begin:end],
            scale=scale,
            mask=mx.abs(distance) <= window,
        )
        mx.eval(chunk)  # else the scores of all chunks would be held at once
        chunks.append(chunk)
    return mx.concatenate(chunks, axis=2)
