"""The Krea 2 transformer (Krea2Transformer2DModel): a text encoder's hidden states and picture tokens in, the velocity out.

    prepared = network.prepare(states, rows, columns)            # states of several depths for each text token
    modulation = network.modulation(timesteps)                   # of all steps at once, timesteps from 1 to 0
    velocity = network.step(tokens, prepared, modulation.at(i))  # pure, so that it can be compiled

Everything that does not depend on the latents, the fusion of the text's depths too, is in the first two. Tokens are picture,
then text: the order is free, as positions are given, and a shorter text of a batch ends earlier.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from models.checkpoint.weights import WeightMap
from models.config import Config, ConfigError
from models.layers.fused import gelu, swiglu
from models.layers.rope import Positions, rotary_table, rotate
from models.transformers.blocks import attend_heads, sinusoid

WEIGHTS = WeightMap(fuse={"to_qkv_gate": ("to_q", "to_k", "to_v", "to_gate"), "gate_up": ("gate", "up")})


@dataclass(frozen=True)
class Krea2Config(Config):
    in_channels: int = 64
    num_layers: int = 28
    attention_head_dim: int = 128
    num_attention_heads: int = 48
    num_key_value_heads: int = 12
    intermediate_size: int = 16384
    timestep_embed_dim: int = 256
    text_hidden_dim: int = 2560
    num_text_layers: int = 12
    text_num_attention_heads: int = 20
    text_num_key_value_heads: int = 20
    text_intermediate_size: int = 6912
    num_layerwise_text_blocks: int = 2
    num_refiner_text_blocks: int = 2
    axes_dims_rope: tuple[int, ...] = (32, 48, 48)
    rope_theta: float = 1000.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if sum(self.axes_dims_rope) != self.attention_head_dim:
            raise ConfigError(
                f"Krea2Config: axes_dims_rope {self.axes_dims_rope} do not add up to {self.attention_head_dim}"
            )
        for heads, shared in (
            (self.num_attention_heads, self.num_key_value_heads),
            (self.text_num_attention_heads, self.text_num_key_value_heads),
        ):
            if heads % shared:
                raise ConfigError(
                    f"Krea2Config: {heads} attention heads cannot share {shared} key-value heads"
                )

    @property
    def width(self) -> int:
        return self.num_attention_heads * self.attention_head_dim


class Prepared(NamedTuple):
    """Inputs shared by the steps of one picture: the fused text (batch, token, width), the rotations of picture and text, and
    how many tokens each member of a batch has, where texts differ in length."""

    text: mx.array
    table: mx.array
    lengths: tuple[int, ...] | None


class Modulation(NamedTuple):
    """Of one step, rows of (block, 2, width): the norms' weights, shifts and gates, of attention and of the MLP; and the last
    norm's weight and shift, (2, width)."""

    norms: mx.array
    shifts: mx.array
    gates: mx.array
    final: mx.array


class Modulations(NamedTuple):
    """What the steps of one picture share and what each adds to it: `steps` (step, 6, width) and `blocks` (block, 6, width)
    add up to each block's rows, `norms` (block, 2, width) are its norms' weights, `final` is complete for each step."""

    steps: mx.array
    blocks: mx.array
    norms: mx.array
    final: mx.array

    def at(self, step: int) -> Modulation:
        rows = self.blocks + self.steps[step]
        scales, shifts, gates = rows[:, 0::3], rows[:, 1::3], rows[:, 2::3]
        return Modulation(self.norms * (1 + scales), shifts, gates, self.final[step])


class OffsetRMSNorm(nn.RMSNorm):
    """An RMS norm whose weight is stored less one, often in a higher precision than the rest."""

    @property
    def scale(self) -> mx.array:
        return 1 + self.weight

    def __call__(self, x: mx.array) -> mx.array:
        return mx.fast.rms_norm(x, self.scale.astype(x.dtype), self.eps)


class Attention(nn.Module):
    """Heads that share keys and values, with normed queries and keys, and a gate for each feature of the output."""

    def __init__(self, width: int, heads: int, shared: int, eps: float) -> None:
        super().__init__()
        self.width, self.head_dim = width, width // heads
        self.shared_width = shared * self.head_dim
        self.to_qkv_gate = nn.Linear(width, 2 * (width + self.shared_width), bias=False)
        self.norm_q = OffsetRMSNorm(self.head_dim, eps=eps)
        self.norm_k = OffsetRMSNorm(self.head_dim, eps=eps)
        self.to_out = [nn.Linear(width, width, bias=False)]

    @property
    def fused_sizes(self) -> dict[str, tuple[int, ...]]:
        return {"to_qkv_gate": (self.width, self.shared_width, self.shared_width, self.width)}

    def __call__(
        self, x: mx.array, table: mx.array | None = None, lengths: Sequence[int] | None = None
    ) -> mx.array:
        ends = np.cumsum(self.fused_sizes["to_qkv_gate"][:-1]).tolist()
        *projected, gate = mx.split(self.to_qkv_gate(x), ends, axis=-1)
        q, k, v = (part.reshape(*part.shape[:2], -1, self.head_dim) for part in projected)
        q, k = self.norm_q(q), self.norm_k(k)
        if table is not None:
            q, k = rotate(q, table), rotate(k, table)
        q, k, v = (heads.transpose(0, 2, 1, 3) for heads in (q, k, v))
        return self.to_out[0](attend_heads(q, k, v, lengths) * mx.sigmoid(gate))


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.down(swiglu(self.gate_up(x)))


class TextBlock(nn.Module):
    """Of the text's fusion: neither positions nor a modulation."""

    def __init__(self, config: Krea2Config) -> None:
        super().__init__()
        width, eps = config.text_hidden_dim, config.norm_eps
        self.norm1 = OffsetRMSNorm(width, eps=eps)
        self.norm2 = OffsetRMSNorm(width, eps=eps)
        self.attn = Attention(width, config.text_num_attention_heads, config.text_num_key_value_heads, eps)
        self.ff = FeedForward(width, config.text_intermediate_size)

    def __call__(self, x: mx.array) -> mx.array:
        x = x + self.attn(self.norm1(x))
        return x + self.ff(self.norm2(x))


class TextFusion(nn.Module):
    """States of several depths to one: blocks that look across the depths of each token, a weighted sum, and blocks that look
    across the tokens."""

    def __init__(self, config: Krea2Config) -> None:
        super().__init__()
        self.layerwise_blocks = [TextBlock(config) for _ in range(config.num_layerwise_text_blocks)]
        self.projector = nn.Linear(config.num_text_layers, 1, bias=False)
        self.refiner_blocks = [TextBlock(config) for _ in range(config.num_refiner_text_blocks)]

    def __call__(self, states: mx.array) -> mx.array:
        """(token, depth, channel) to (1, token, channel)."""
        for block in self.layerwise_blocks:
            states = block(states)
        x = self.projector(states.swapaxes(1, 2)).squeeze(-1)[None]
        for block in self.refiner_blocks:
            x = block(x)
        return x


class TextProjection(nn.Module):
    def __init__(self, config: Krea2Config) -> None:
        super().__init__()
        self.norm = OffsetRMSNorm(config.text_hidden_dim, eps=config.norm_eps)
        self.linear_1 = nn.Linear(config.text_hidden_dim, config.width)
        self.linear_2 = nn.Linear(config.width, config.width)

    def __call__(self, x: mx.array) -> mx.array:
        return self.linear_2(gelu(self.linear_1(self.norm(x))))


class TimeEmbedding(nn.Module):
    def __init__(self, config: Krea2Config) -> None:
        super().__init__()
        self.channels = config.timestep_embed_dim
        self.linear_1 = nn.Linear(self.channels, config.width)
        self.linear_2 = nn.Linear(config.width, config.width)

    def __call__(self, timesteps: Sequence[float], dtype: mx.Dtype) -> mx.array:
        return self.linear_2(gelu(self.linear_1(sinusoid(timesteps, self.channels).astype(dtype))))


class Block(nn.Module):
    def __init__(self, config: Krea2Config) -> None:
        super().__init__()
        width, self.eps = config.width, config.norm_eps
        self.scale_shift_table = mx.zeros((6, width))
        self.norm1 = OffsetRMSNorm(width, eps=self.eps)
        self.norm2 = OffsetRMSNorm(width, eps=self.eps)
        self.attn = Attention(width, config.num_attention_heads, config.num_key_value_heads, self.eps)
        self.ff = FeedForward(width, config.intermediate_size)

    def __call__(
        self,
        x: mx.array,
        rows: tuple[mx.array, mx.array, mx.array],
        table: mx.array,
        lengths: Sequence[int] | None = None,
    ) -> mx.array:
        norms, shifts, gates = rows
        out = self.attn(mx.fast.rms_norm(x, norms[0], self.eps) + shifts[0], table, lengths)
        x = x + gates[0] * out
        out = self.ff(mx.fast.rms_norm(x, norms[1], self.eps) + shifts[1])
        return x + gates[1] * out


class FinalLayer(nn.Module):
    def __init__(self, config: Krea2Config) -> None:
        super().__init__()
        self.eps = config.norm_eps
        self.scale_shift_table = mx.zeros((2, config.width))
        self.norm = OffsetRMSNorm(config.width, eps=self.eps)
        self.linear = nn.Linear(config.width, config.in_channels)

    def modulation(self, embedded: mx.array) -> mx.array:
        """The norm's weight and shift under each time embedding, (step, 2, width)."""
        scale, shift = mx.split(embedded[:, None] + self.scale_shift_table, 2, axis=1)
        return mx.concatenate([self.norm.scale.astype(embedded.dtype) * (1 + scale), shift], axis=1)

    def __call__(self, x: mx.array, rows: mx.array) -> mx.array:
        return self.linear(mx.fast.rms_norm(x, rows[0], self.eps) + rows[1])


class Krea2Transformer(nn.Module):
    def __init__(self, config: Krea2Config) -> None:
        super().__init__()
        self.config = config
        self.img_in = nn.Linear(config.in_channels, config.width)
        self.time_embed = TimeEmbedding(config)
        self.time_mod_proj = nn.Linear(config.width, 6 * config.width)
        self.text_fusion = TextFusion(config)
        self.txt_in = TextProjection(config)
        self.transformer_blocks = [Block(config) for _ in range(config.num_layers)]
        self.final_layer = FinalLayer(config)

    @property
    def dtype(self) -> mx.Dtype:
        """The norms may be stored in a higher precision; these tables are neither that nor quantized."""
        return self.final_layer.scale_shift_table.dtype

    def prepare(self, states: Sequence[mx.array], rows: int, columns: int) -> Prepared:
        """Fuse the texts, (token, depth x channel) each and of any length, for a picture of rows x columns tokens."""
        depths = self.config.num_text_layers
        fused = [
            self.txt_in(self.text_fusion(text.astype(self.dtype).reshape(len(text), depths, -1)))[0]
            for text in states
        ]
        counts = [len(text) for text in fused]
        longest = max(counts)
        text = mx.stack([mx.pad(x, [(0, longest - len(x)), (0, 0)]) for x in fused])
        table = rotary_table(
            positions(rows, columns, longest), self.config.axes_dims_rope, self.config.rope_theta
        )
        lengths = None if len(set(counts)) == 1 else tuple(rows * columns + count for count in counts)
        return Prepared(text, table, lengths)

    def modulation(self, timesteps: Sequence[float]) -> Modulations:
        """For all steps, with timesteps from 1 (noise) to 0 (picture)."""
        embedded = self.time_embed(timesteps, self.dtype)
        steps = self.time_mod_proj(gelu(embedded)).reshape(len(embedded), 6, -1)
        blocks = mx.stack([block.scale_shift_table for block in self.transformer_blocks])
        norms = mx.stack([mx.stack([b.norm1.scale, b.norm2.scale]) for b in self.transformer_blocks])
        return Modulations(steps, blocks, norms.astype(self.dtype), self.final_layer.modulation(embedded))

    def step(self, tokens: mx.array, prepared: Prepared, modulation: Modulation) -> mx.array:
        """The velocity at `tokens` (batch, token, in_channels), with the modulation of one step."""
        text, table, lengths = prepared
        x = mx.concatenate([self.img_in(tokens.astype(text.dtype)), text], axis=1)
        *rows, final = modulation
        for block, *of_block in zip(self.transformer_blocks, *rows, strict=True):
            x = block(x, tuple(of_block), table, lengths)
        return self.final_layer(x[:, : tokens.shape[1]], final)


def positions(rows: int, columns: int, text: int) -> Positions:
    """(time, row, column) of a picture's tokens, and its text at the origin."""
    grid = np.stack(np.meshgrid([0], range(rows), range(columns), indexing="ij"), -1).reshape(-1, 3)
    return np.pad(grid, ((0, text), (0, 0)))
