"""Shared by the diffusion transformers: time embeddings, modulated norms, joint attention."""

import math
from collections.abc import Sequence
from typing import TypeAlias

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from models.layers.attention import softmax_attention
from models.layers.fused import Part, gelu, heads_first

MAX_PERIOD = 10000
TIME_SCALE = 1000.0  # of timesteps and guidance in FLUX; Z-Image's is in its config


def sinusoid(values: Sequence[float], channels: int, scale: float = TIME_SCALE) -> mx.array:
    """Cosines, then sines of each scaled value at `channels // 2` decreasing frequencies, (value, channel), in float32.

    The arguments reach some thousand radians, where a GPU's fast sine is inaccurate, so NumPy computes them. They are rounded
    to float32 where the reference rounds them: their last bit makes a difference of 1e-4 in the result.
    """
    half = channels // 2
    exponents = np.arange(half, dtype=np.float32) * np.float32(-math.log(MAX_PERIOD)) / np.float32(half)
    frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
    angles = (np.asarray(values, dtype=np.float32) * np.float32(scale))[:, None] * frequencies
    waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)
    return mx.array(np.pad(waves, ((0, 0), (0, channels % 2))))


class Embedding(nn.Module):
    """A projection to the width of the residual stream: two layers with a SiLU between."""

    def __init__(self, channels: int, width: int, bias: bool) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(channels, width, bias=bias)
        self.linear_2 = nn.Linear(width, width, bias=bias)

    def __call__(self, x: mx.array) -> mx.array:
        return self.linear_2(nn.silu(self.linear_1(x)))


class Projection(nn.Module):
    """A linear layer from the conditioning to rows of modulation; 1 is added to rows that are scales."""

    def __init__(self, width: int, rows: int, scales: Sequence[int], bias: bool) -> None:
        super().__init__()
        self.rows, self.scales = rows, tuple(scales)
        self.linear = nn.Linear(width, rows * width, bias=bias)

    def __call__(self, activated: mx.array) -> mx.array:
        """(…, width) to (…, row, width)."""
        return modulation_rows(self.linear(activated), self.rows, self.scales)


def modulation_rows(projected: mx.array, rows: int, scales: Sequence[int]) -> mx.array:
    """(…, row x width) as (…, row, width), with 1 added to rows that are scales."""
    ones = np.zeros((rows, 1), dtype=np.float32)
    ones[list(scales)] = 1
    split = projected.reshape(*projected.shape[:-1], rows, -1)
    return split + mx.array(ones, dtype=split.dtype)


class Gelu(nn.Module):
    """The approximate one, after a projection."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, hidden)

    def __call__(self, x: mx.array) -> mx.array:
        return gelu(self.proj(x))


class GeluFeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        # The reference has a dropout in the middle.
        self.net = [Gelu(width, hidden), nn.Identity(), nn.Linear(hidden, width)]

    def __call__(self, x: mx.array) -> mx.array:
        return self.net[2](self.net[0](x))


KeysValues: TypeAlias = tuple[
    mx.array, mx.array
]  # (1 or batch, head, token, channel), after rotary embeddings


def modulated_norm(x: mx.array, scale: mx.array, shift: mx.array | None, eps: float) -> mx.array:
    """Layer norm of (batch, token, channel), scaled and shifted by (1 or batch, channel).

    A single scale for the whole batch is passed as the norm's weight: one kernel, with statistics in float32.
    """
    if scale.shape[0] == 1:
        return mx.fast.layer_norm(x, scale[0], None if shift is None else shift[0], eps)
    normed = mx.fast.layer_norm(x, None, None, eps) * scale[:, None]
    return normed if shift is None else normed + shift[:, None]


def attend(
    parts: Sequence[Part],
    table: mx.array,
    heads: int,
    head_dim: int,
    lengths: Sequence[int] | None = None,
    kept: KeysValues | None = None,
) -> mx.array:
    """Attention among the tokens of all parts, after rotary embeddings; (batch, token, channels).

    `lengths`, where the members of a batch differ in length: each attends to so many tokens, the first ones. `kept`: keys
    and values of further tokens that all attend to.
    """
    q, k, v = heads_first(parts, table, heads, head_dim)
    if kept is not None:
        k, v = (
            mx.concatenate([new, mx.broadcast_to(old, (len(new), *old.shape[1:]))], axis=2)
            for new, old in zip((k, v), kept, strict=True)
        )
    return attend_heads(q, k, v, lengths)


def attend_heads(q: mx.array, k: mx.array, v: mx.array, lengths: Sequence[int] | None = None) -> mx.array:
    """Attention of (batch, head, token, channel) as (batch, token, channels); `lengths` as in `attend`."""
    scale = q.shape[-1] ** -0.5
    if lengths is None:
        out = softmax_attention(q, k, v, scale)
    else:
        # One by one: a mask would make the whole step an eighth slower.
        members = [(slice(i, i + 1), slice(length)) for i, length in enumerate(lengths)]
        out = mx.concatenate(
            [softmax_attention(q[i], k[i, :, tokens], v[i, :, tokens], scale) for i, tokens in members]
        )
    return out.transpose(0, 2, 1, 3).flatten(2)


def attend_alone(part: Part, table: mx.array, heads: int, head_dim: int) -> tuple[mx.array, KeysValues]:
    """Attention among the tokens of one part, and their keys and values for others to attend to."""
    q, k, v = heads_first([part], table, heads, head_dim)
    return attend_heads(q, k, v), (k, v)


class JointAttention(nn.Module):
    """Text and picture, with projections of their own, attending to each other."""

    def __init__(self, heads: int, head_dim: int, eps: float, bias: bool) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        width = heads * head_dim
        self.to_qkv = nn.Linear(width, 3 * width, bias=bias)
        self.to_added_qkv = nn.Linear(width, 3 * width, bias=bias)
        self.norm_q = nn.RMSNorm(head_dim, eps=eps)
        self.norm_k = nn.RMSNorm(head_dim, eps=eps)
        self.norm_added_q = nn.RMSNorm(head_dim, eps=eps)
        self.norm_added_k = nn.RMSNorm(head_dim, eps=eps)
        self.to_out = [nn.Linear(width, width, bias=bias)]
        self.to_add_out = nn.Linear(width, width, bias=bias)

    def __call__(
        self, text: mx.array, image: mx.array, table: mx.array, kept: KeysValues | None = None
    ) -> tuple[mx.array, mx.array]:
        parts = [
            Part(self.to_added_qkv(text), self.norm_added_q, self.norm_added_k),
            Part(self.to_qkv(image), self.norm_q, self.norm_k),
        ]
        out = attend(parts, table, self.heads, self.head_dim, kept=kept)
        length = text.shape[1]
        return self.to_add_out(out[:, :length]), self.to_out[0](out[:, length:])


def clamp_float16(x: mx.array) -> mx.array:
    """Clamp float16 to its range, as the reference does; other dtypes are unchanged."""
    if x.dtype != mx.float16:
        return x
    limit = float(np.finfo(np.float16).max)
    return mx.clip(x, -limit, limit)


def stream_dtype(network: nn.Module) -> mx.Dtype:
    """The dtype that a network computes in: its norms', which are never quantized."""
    return next(layer.weight.dtype for layer in network.modules() if isinstance(layer, nn.RMSNorm))
