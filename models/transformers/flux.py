"""The FLUX.1 transformer (FluxTransformer2DModel): text and picture tokens in, the velocity of the picture out.

    prepared = network.prepare(text, text_positions, picture_positions)
    modulation = network.modulation(timesteps, pooled, guidance)  # of all steps at once, timesteps from 1 to 0
    velocity = network.step(latents, prepared, modulation.at(i))  # pure, so that it can be compiled

Everything that does not depend on the latents is in the first two; a quarter of the weights serve the second alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from models.checkpoint.weights import WeightMap
from models.config import Config, ConfigError
from models.layers.fused import Part, concat_mlp
from models.layers.rope import Positions, rotary_table
from models.transformers.blocks import (
    Embedding,
    GeluFeedForward,
    JointAttention,
    Projection,
    attend,
    clamp_float16,
    modulated_norm,
    sinusoid,
    stream_dtype,
)

WEIGHTS = WeightMap(
    fuse={
        "to_qkv": ("to_q", "to_k", "to_v"),
        "to_added_qkv": ("add_q_proj", "add_k_proj", "add_v_proj"),
        # The single blocks' layers beside their attention.
        "attn.to_qkv_mlp": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
        "attn.to_out_mlp": ("proj_out",),
    }
)

# Constants of the reference that are not in its config.
EPS = 1e-6
ROPE_THETA = 10000
MLP_RATIO = 4
TIME_CHANNELS = 256


@dataclass(frozen=True)
class FluxConfig(Config):
    in_channels: int
    num_layers: int
    num_single_layers: int
    attention_head_dim: int
    num_attention_heads: int
    joint_attention_dim: int
    pooled_projection_dim: int
    guidance_embeds: bool = False
    axes_dims_rope: tuple[int, ...] = (16, 56, 56)
    patch_size: int = 1
    out_channels: int | None = None

    @property
    def width(self) -> int:
        return self.num_attention_heads * self.attention_head_dim

    @property
    def mlp_width(self) -> int:
        return MLP_RATIO * self.width

    @property
    def out_features(self) -> int:
        return self.patch_size**2 * (self.out_channels or self.in_channels)


Streams: TypeAlias = tuple[mx.array, mx.array]


class Prepared(NamedTuple):
    """Inputs shared by the steps of one picture: the embedded text and reference pictures (1 or batch, token, width), and the
    rotations of all tokens."""

    text: mx.array
    references: mx.array | None
    table: mx.array


class Modulation(NamedTuple):
    """For each block rows of shifts, scales (one already added) and gates: (step, batch, row, width), or of one step
    (batch, row, width)."""

    image: tuple[mx.array, ...]
    text: tuple[mx.array, ...]
    single: tuple[mx.array, ...]
    out: mx.array

    def at(self, step: int) -> "Modulation":
        image, text, single = (tuple(rows[step] for rows in blocks) for blocks in self[:3])
        return Modulation(image, text, single, self.out[step])


class Residuals(NamedTuple):
    """What ControlNets add to the picture's tokens behind each block, (1 or batch, token, width); empty: nothing."""

    double: tuple[mx.array, ...]
    single: tuple[mx.array, ...]


NO_RESIDUALS = Residuals((), ())


def spread(residuals: Sequence[mx.array], blocks: int) -> tuple[mx.array, ...]:
    """One for each block, where there are fewer than blocks: each serves several in a row."""
    if not residuals:
        return ()
    run = math.ceil(blocks / len(residuals))
    return tuple(residuals[block // run] for block in range(blocks))


def add_residuals(one: Residuals, other: Residuals) -> Residuals:
    return Residuals(
        *(tuple(map(mx.add, a, b)) if a and b else a or b for a, b in zip(one, other, strict=True))
    )


def shifted(x: mx.array, rows: mx.array) -> mx.array:
    """The norm of x with a shift and a scale, the first two of `rows`."""
    return modulated_norm(x, rows[:, 1], rows[:, 0], EPS)


def gated(x: mx.array, gate: mx.array) -> mx.array:
    return gate[:, None] * x


class DoubleBlock(nn.Module):
    """Text and picture side by side. A modulation's rows: shift, scale, gate of attention, then of the MLP."""

    def __init__(self, config: FluxConfig) -> None:
        super().__init__()
        self.norm1 = Projection(config.width, 6, scales=(1, 4), bias=True)
        self.norm1_context = Projection(config.width, 6, scales=(1, 4), bias=True)
        self.attn = JointAttention(config.num_attention_heads, config.attention_head_dim, EPS, bias=True)
        self.ff = GeluFeedForward(config.width, config.mlp_width)
        self.ff_context = GeluFeedForward(config.width, config.mlp_width)

    def __call__(
        self, text: mx.array, image: mx.array, table: mx.array, text_rows: mx.array, image_rows: mx.array
    ) -> tuple[mx.array, mx.array]:
        text_out, image_out = self.attn(shifted(text, text_rows), shifted(image, image_rows), table)
        image = image + gated(image_out, image_rows[:, 2])
        image = image + gated(self.ff(shifted(image, image_rows[:, 3:])), image_rows[:, 5])
        text = text + gated(text_out, text_rows[:, 2])
        text = text + gated(self.ff_context(shifted(text, text_rows[:, 3:])), text_rows[:, 5])
        return clamp_float16(text), image


class ParallelAttention(nn.Module):
    """Attention and MLP in parallel: one projection in, one out."""

    def __init__(self, config: FluxConfig) -> None:
        super().__init__()
        width, head_dim = config.width, config.attention_head_dim
        self.heads, self.head_dim = config.num_attention_heads, head_dim
        self.to_qkv_mlp = nn.Linear(width, 3 * width + config.mlp_width)
        self.norm_q = nn.RMSNorm(head_dim, eps=EPS)
        self.norm_k = nn.RMSNorm(head_dim, eps=EPS)
        self.to_out_mlp = nn.Linear(width + config.mlp_width, width)

    def __call__(self, x: mx.array, table: mx.array) -> mx.array:
        projected = self.to_qkv_mlp(x)
        part = Part(projected, self.norm_q, self.norm_k)
        out = attend([part], table, self.heads, self.head_dim)
        return self.to_out_mlp(concat_mlp(out, projected, 3 * self.heads * self.head_dim, gated=False))


class SingleBlock(nn.Module):
    """Text and picture as one stream. A modulation's rows: shift, scale, gate."""

    def __init__(self, config: FluxConfig) -> None:
        super().__init__()
        self.norm = Projection(config.width, 3, scales=(1,), bias=True)
        self.attn = ParallelAttention(config)

    def __call__(self, stream: mx.array, table: mx.array, rows: mx.array) -> mx.array:
        return clamp_float16(stream + gated(self.attn(shifted(stream, rows), table), rows[:, 2]))


class TimeText(nn.Module):
    """The conditioning of all blocks: time, pooled text, and the guidance of networks distilled with it."""

    def __init__(self, config: FluxConfig) -> None:
        super().__init__()
        self.timestep_embedder = Embedding(TIME_CHANNELS, config.width, bias=True)
        if config.guidance_embeds:
            self.guidance_embedder = Embedding(TIME_CHANNELS, config.width, bias=True)
        self.text_embedder = Embedding(config.pooled_projection_dim, config.width, bias=True)

    def __call__(self, timesteps: Sequence[float], pooled: mx.array, guidance: float | None) -> mx.array:
        """(step, batch, width) for `pooled` (batch, pooled_projection_dim)."""
        embedded = self.timestep_embedder(sinusoid(timesteps, TIME_CHANNELS).astype(pooled.dtype))
        if guidance is not None:
            waves = sinusoid([guidance], TIME_CHANNELS).astype(pooled.dtype)
            embedded = embedded + self.guidance_embedder(waves)
        return embedded[:, None] + self.text_embedder(pooled)


class FluxStream(nn.Module):
    """What the transformer and its ControlNets have in common: the embeddings and the blocks."""

    def __init__(self, config: FluxConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.x_embedder = nn.Linear(config.in_channels, width)
        self.context_embedder = nn.Linear(config.joint_attention_dim, width)
        self.time_text_embed = TimeText(config)
        self.transformer_blocks = [DoubleBlock(config) for _ in range(config.num_layers)]
        self.single_transformer_blocks = [SingleBlock(config) for _ in range(config.num_single_layers)]

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
        table = rotary_table(positions, self.config.axes_dims_rope, ROPE_THETA)
        embedded = None if references is None else self.x_embedder(references.astype(self.dtype))
        return Prepared(self.context_embedder(text.astype(self.dtype)), embedded, table)

    def conditioning(
        self, timesteps: Sequence[float], pooled: mx.array, guidance: float | None
    ) -> tuple[mx.array, Modulation]:
        """The activated conditioning, (step, batch, width), and the rows of all blocks, but none for the output."""
        if (guidance is not None) != self.config.guidance_embeds:
            expected = "a number" if self.config.guidance_embeds else "none"
            raise ConfigError(f"guidance is {guidance}; this network takes {expected} (guidance_embeds)")
        activated = nn.silu(self.time_text_embed(timesteps, pooled.astype(self.dtype), guidance))
        doubles, singles = self.transformer_blocks, self.single_transformer_blocks
        return activated, Modulation(
            tuple(block.norm1(activated) for block in doubles),
            tuple(block.norm1_context(activated) for block in doubles),
            tuple(block.norm(activated) for block in singles),
            activated,
        )


class FluxTransformer(FluxStream):
    def __init__(self, config: FluxConfig) -> None:
        super().__init__(config)
        self.norm_out = Projection(config.width, 2, scales=(0,), bias=True)
        self.proj_out = nn.Linear(config.width, config.out_features)

    def modulation(
        self, timesteps: Sequence[float], pooled: mx.array, guidance: float | None = None
    ) -> Modulation:
        """For all steps, with timesteps from 1 (noise) to 0 (picture) and the pooled text (batch, channel)."""
        activated, modulation = self.conditioning(timesteps, pooled, guidance)
        return modulation._replace(out=self.norm_out(activated))

    def step(
        self,
        latents: mx.array,
        prepared: Prepared,
        modulation: Modulation,
        residuals: Residuals = NO_RESIDUALS,
    ) -> mx.array:
        """The velocity at `latents` (batch, token, in_channels), with the modulation of one step."""
        streams = self.begin(latents, prepared, modulation)
        streams = self.first_block(streams, prepared, modulation, residuals)
        return self.output(self.other_blocks(streams, prepared, modulation, residuals), latents, modulation)

    # A step in parts, some of which may be reused. Streams are the picture, with its references, and the text.

    def begin(self, latents: mx.array, prepared: Prepared, modulation: Modulation) -> Streams:
        text, references, _ = prepared
        image = self.x_embedder(latents.astype(text.dtype))
        if references is not None:
            repeated = mx.broadcast_to(references, (len(image), *references.shape[1:]))
            image = mx.concatenate([image, repeated], axis=1)
        return image, text

    def first_block(
        self,
        streams: Streams,
        prepared: Prepared,
        modulation: Modulation,
        residuals: Residuals = NO_RESIDUALS,
    ) -> Streams:
        return self._doubles(streams, prepared, modulation, residuals, slice(0, 1))

    def other_blocks(
        self,
        streams: Streams,
        prepared: Prepared,
        modulation: Modulation,
        residuals: Residuals = NO_RESIDUALS,
    ) -> mx.array:
        """The picture after them."""
        image, text = self._doubles(streams, prepared, modulation, residuals, slice(1, None))
        stream = mx.concatenate([text, image], axis=1)
        singles = zip(self.single_transformer_blocks, modulation.single, strict=True)
        for index, (single, rows) in enumerate(singles):
            stream = single(stream, prepared.table, rows)
            if residuals.single:
                picture = stream[:, text.shape[1] :] + residuals.single[index]
                stream = mx.concatenate([stream[:, : text.shape[1]], picture], axis=1)
        return stream[:, text.shape[1] :]

    def output(self, image: mx.array, latents: mx.array, modulation: Modulation) -> mx.array:
        picture = image[:, : latents.shape[1]]
        return self.proj_out(modulated_norm(picture, modulation.out[:, 0], modulation.out[:, 1], EPS))

    def _doubles(
        self, streams: Streams, prepared: Prepared, modulation: Modulation, residuals: Residuals, which: slice
    ) -> Streams:
        image, text = streams
        blocks = self.transformer_blocks[which]
        more = residuals.double[which] or (None,) * len(blocks)
        rows = zip(modulation.text[which], modulation.image[which], more, strict=True)
        for block, (text_rows, image_rows, residual) in zip(blocks, rows, strict=True):
            text, image = block(text, image, prepared.table, text_rows, image_rows)
            image = image if residual is None else image + residual
        return image, text
