"""Heads of attention layers."""

import mlx.core as mx


def split_heads(x: mx.array, heads: int) -> mx.array:
    """[row, token, channel] to [row, head, token, channel of the head]."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def merge_heads(x: mx.array) -> mx.array:
    """The inverse of `split_heads`."""
    return x.transpose(0, 2, 1, 3).flatten(-2)
