"""The FLUX.2 transformer (Flux2Transformer2DModel): text and picture tokens in, the velocity of the picture out.

    prepared = network.prepare(text, text_positions, picture_positions, references)
    modulation = network.modulation(timesteps)                   # of all steps at once, timesteps from 1 to 0
    velocity = network.step(latents, prepared, modulation.at(i))  # pure, so that it can be compiled

Everything that does not depend on the latents is in the first two. Tokens are text, noise, references.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from models.checkpoint.weights import WeightMap
from models.config import Config
from models.layers.fused import Part, concat_mlp, swiglu
from models.layers.rope import Positions, rotary_table
from models.transformers.blocks import (
    Embedding,
    JointAttention,
    KeysValues,
    Projection,
    attend,
    attend_alone,
    clamp_float16,
    modulated_norm,
    sinusoid,
    stream_dtype,
)

WEIGHTS = WeightMap(
    fuse={"to_qkv": ("to_q", "to_k", "to_v"), "to_added_qkv": ("add_q_proj", "add_k_proj", "add_v_proj")}
)


@dataclass(frozen=True)
class Flux2Config(Config):
    in_channels: int
    num_layers: int
    num_single_layers: int
    attention_head_dim: int
    num_attention_heads: int
    joint_attention_dim: int
    axes_dims_rope: tuple[int, ...]
    patch_size: int = 1
    out_channels: int | None = None
    timestep_guidance_channels: int = 256
    mlp_ratio: float = 3.0
    rope_theta: float = 2000
    eps: float = 1e-6
    guidance_embeds: bool = True

    @property
    def width(self) -> int:
        return self.num_attention_heads * self.attention_head_dim

    @property
    def mlp_width(self) -> int:
        return int(self.width * self.mlp_ratio)

    @property
    def out_features(self) -> int:
        return self.patch_size**2 * (self.out_channels or self.in_channels)


Streams: TypeAlias = tuple[mx.array, mx.array]


class Prepared(NamedTuple):
    """Inputs shared by the steps of one picture: the embedded text (batch, token, width), the embedded reference pictures
    if there are any, and the rotations of all tokens. `kept`: the references' keys and values in each block instead."""

    text: mx.array
    references: mx.array | None
    table: mx.array
    kept: tuple[KeysValues, ...] = ()


class Modulation(NamedTuple):
    """Rows of shifts, scales (one already added) and gates, (step, row, width), or of one step, (row, width)."""

    image: mx.array
    text: mx.array
    single: mx.array
    out: mx.array

    def at(self, step: int) -> "Modulation":
        return Modulation(*(rows[step] for rows in self))


def shifted(x: mx.array, rows: mx.array, eps: float) -> mx.array:
    """The norm of x with a shift and a scale, `rows`, shared by the batch."""
    return modulated_norm(x, rows[1:2], rows[0:1], eps)


class FeedForward(nn.Module):
    def __init__(self, config: Flux2Config) -> None:
        super().__init__()
        self.linear_in = nn.Linear(config.width, 2 * config.mlp_width, bias=False)
        self.linear_out = nn.Linear(config.mlp_width, config.width, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.linear_out(swiglu(self.linear_in(x)))


class DoubleBlock(nn.Module):
    """Text and picture side by side. A modulation's rows: shift, scale, gate of attention, then of the MLP."""

    def __init__(self, config: Flux2Config) -> None:
        super().__init__()
        self.eps = config.eps
        self.attn = JointAttention(
            config.num_attention_heads, config.attention_head_dim, config.eps, bias=False
        )
        self.ff = FeedForward(config)
        self.ff_context = FeedForward(config)

    def __call__(
        self,
        text: mx.array,
        image: mx.array,
        table: mx.array,
        rows: Modulation,
        kept: KeysValues | None = None,
    ) -> tuple[mx.array, mx.array]:
        text_out, image_out = self.attn(
            shifted(text, rows.text, self.eps), shifted(image, rows.image, self.eps), table, kept
        )
        image = self._image(image, image_out, rows)
        text = text + rows.text[2] * text_out
        text = text + rows.text[5] * self.ff_context(shifted(text, rows.text[3:], self.eps))
        return clamp_float16(text), image

    def alone(self, image: mx.array, table: mx.array, rows: Modulation) -> tuple[mx.array, KeysValues]:
        """Pictures that attend to themselves, and their keys and values."""
        attn = self.attn
        part = Part(attn.to_qkv(shifted(image, rows.image, self.eps)), attn.norm_q, attn.norm_k)
        out, kept = attend_alone(part, table, attn.heads, attn.head_dim)
        return self._image(image, attn.to_out[0](out), rows), kept

    def _image(self, image: mx.array, attended: mx.array, rows: Modulation) -> mx.array:
        image = image + rows.image[2] * attended
        return image + rows.image[5] * self.ff(shifted(image, rows.image[3:], self.eps))


class ParallelAttention(nn.Module):
    """Attention and MLP in parallel: one projection in, one out."""

    def __init__(self, config: Flux2Config) -> None:
        super().__init__()
        width, head_dim = config.width, config.attention_head_dim
        self.heads, self.head_dim = config.num_attention_heads, head_dim
        self.to_qkv_mlp_proj = nn.Linear(width, 3 * width + 2 * config.mlp_width, bias=False)
        self.norm_q = nn.RMSNorm(head_dim, eps=config.eps)
        self.norm_k = nn.RMSNorm(head_dim, eps=config.eps)
        self.to_out = nn.Linear(width + config.mlp_width, width, bias=False)

    def __call__(self, x: mx.array, table: mx.array, kept: KeysValues | None = None) -> mx.array:
        projected = self.to_qkv_mlp_proj(x)
        part = Part(projected, self.norm_q, self.norm_k)
        return self._out(attend([part], table, self.heads, self.head_dim, kept=kept), projected)

    def alone(self, x: mx.array, table: mx.array) -> tuple[mx.array, KeysValues]:
        projected = self.to_qkv_mlp_proj(x)
        part = Part(projected, self.norm_q, self.norm_k)
        out, kept = attend_alone(part, table, self.heads, self.head_dim)
        return self._out(out, projected), kept

    def _out(self, out: mx.array, projected: mx.array) -> mx.array:
        return self.to_out(concat_mlp(out, projected, 3 * self.heads * self.head_dim, gated=True))


class SingleBlock(nn.Module):
    """Text and picture as one stream. A modulation's rows: shift, scale, gate."""

    def __init__(self, config: Flux2Config) -> None:
        super().__init__()
        self.eps = config.eps
        self.attn = ParallelAttention(config)

    def __call__(
        self, stream: mx.array, table: mx.array, rows: mx.array, kept: KeysValues | None = None
    ) -> mx.array:
        return clamp_float16(stream + rows[2] * self.attn(shifted(stream, rows, self.eps), table, kept))

    def alone(self, stream: mx.array, table: mx.array, rows: mx.array) -> tuple[mx.array, KeysValues]:
        """Tokens that attend to themselves, and their keys and values."""
        out, kept = self.attn.alone(shifted(stream, rows, self.eps), table)
        return clamp_float16(stream + rows[2] * out), kept


class TimeGuidance(nn.Module):
    def __init__(self, config: Flux2Config) -> None:
        super().__init__()
        self.channels = config.timestep_guidance_channels
        self.timestep_embedder = Embedding(self.channels, config.width, bias=False)
        if config.guidance_embeds:
            self.guidance_embedder = Embedding(self.channels, config.width, bias=False)

    def __call__(self, timesteps: Sequence[float], guidance: float | None, dtype: mx.Dtype) -> mx.array:
        embedded = self.timestep_embedder(sinusoid(timesteps, self.channels).astype(dtype))
        if guidance is None or "guidance_embedder" not in self:
            return embedded
        return embedded + self.guidance_embedder(sinusoid([guidance], self.channels).astype(dtype))


class Flux2Transformer(nn.Module):
    def __init__(self, config: Flux2Config) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.x_embedder = nn.Linear(config.in_channels, width, bias=False)
        self.context_embedder = nn.Linear(config.joint_attention_dim, width, bias=False)
        self.time_guidance_embed = TimeGuidance(config)
        self.double_stream_modulation_img = Projection(width, 6, scales=(1, 4), bias=False)
        self.double_stream_modulation_txt = Projection(width, 6, scales=(1, 4), bias=False)
        self.single_stream_modulation = Projection(width, 3, scales=(1,), bias=False)
        self.transformer_blocks = [DoubleBlock(config) for _ in range(config.num_layers)]
        self.single_transformer_blocks = [SingleBlock(config) for _ in range(config.num_single_layers)]
        self.norm_out = Projection(width, 2, scales=(0,), bias=False)
        self.proj_out = nn.Linear(width, config.out_features, bias=False)

    @property
    def dtype(self) -> mx.Dtype:
        return stream_dtype(self)

    def prepare(
        self,
        text: mx.array,
        text_positions: Positions,
        picture_positions: Positions,
        references: mx.array | None = None,
    ) -> Prepared:
        """Embed the inputs that the steps share. `text` (batch, token, joint_attention_dim); `references` (1 or batch, token,
        in_channels); `picture_positions` are the noise's, then the references', (token, axis)."""
        positions = np.concatenate([text_positions, picture_positions])
        table = rotary_table(positions, self.config.axes_dims_rope, self.config.rope_theta)
        embedded = None if references is None else self.x_embedder(references.astype(self.dtype))
        return Prepared(self.context_embedder(text.astype(self.dtype)), embedded, table)

    def keep(self, references: mx.array, positions: Positions) -> tuple[KeysValues, ...]:
        """Keys and values in each block of references (1, token, in_channels) that attend to themselves alone, at time 0: the
        same for all steps."""
        table = rotary_table(positions, self.config.axes_dims_rope, self.config.rope_theta)
        rows = self.modulation([0.0]).at(0)
        stream, keys_values = self.x_embedder(references.astype(self.dtype)), []
        for block in self.transformer_blocks:
            stream, kept = block.alone(stream, table, rows)
            keys_values.append(kept)
        for single in self.single_transformer_blocks:
            stream, kept = single.alone(stream, table, rows.single)
            keys_values.append(kept)
        return tuple(keys_values)

    def modulation(self, timesteps: Sequence[float], guidance: float | None = None) -> Modulation:
        """For all steps, with timesteps from 1 (noise) to 0 (picture)."""
        activated = nn.silu(self.time_guidance_embed(timesteps, guidance, self.dtype))
        return Modulation(
            self.double_stream_modulation_img(activated),
            self.double_stream_modulation_txt(activated),
            self.single_stream_modulation(activated),
            self.norm_out(activated),
        )

    def step(self, latents: mx.array, prepared: Prepared, modulation: Modulation) -> mx.array:
        """The velocity at `latents` (batch, token, in_channels), with the modulation of one step."""
        streams = self.first_block(self.begin(latents, prepared, modulation), prepared, modulation)
        return self.output(self.other_blocks(streams, prepared, modulation), latents, modulation)

    # A step in parts, some of which may be reused. Streams are the picture, with its references, and the text.

    def begin(self, latents: mx.array, prepared: Prepared, modulation: Modulation) -> Streams:
        image = self.x_embedder(latents.astype(prepared.text.dtype))
        references = prepared.references
        if references is not None:
            repeated = mx.broadcast_to(references, (len(image), *references.shape[1:]))
            image = mx.concatenate([image, repeated], axis=1)
        return image, prepared.text

    def first_block(self, streams: Streams, prepared: Prepared, modulation: Modulation) -> Streams:
        return self._doubles(streams, prepared, modulation, slice(0, 1))

    def other_blocks(self, streams: Streams, prepared: Prepared, modulation: Modulation) -> mx.array:
        """The picture after them."""
        image, text = self._doubles(streams, prepared, modulation, slice(1, None))
        stream = mx.concatenate([text, image], axis=1)
        kept = prepared.kept[len(self.transformer_blocks) :] or [None] * len(self.single_transformer_blocks)
        for single, of_block in zip(self.single_transformer_blocks, kept, strict=True):
            stream = single(stream, prepared.table, modulation.single, of_block)
        return stream[:, text.shape[1] :]

    def output(self, image: mx.array, latents: mx.array, modulation: Modulation) -> mx.array:
        noise = image[:, : latents.shape[1]]
        scale, shift = modulation.out[0:1], modulation.out[1:2]
        return self.proj_out(modulated_norm(noise, scale, shift, self.config.eps))

    def _doubles(self, streams: Streams, prepared: Prepared, modulation: Modulation, which: slice) -> Streams:
        image, text = streams
        blocks = self.transformer_blocks
        kept = (prepared.kept[: len(blocks)] or [None] * len(blocks))[which]
        for block, of_block in zip(blocks[which], kept, strict=True):
            text, image = block(text, image, prepared.table, modulation, of_block)
        return image, text
