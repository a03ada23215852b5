"""The Qwen-Image transformer (QwenImageTransformer2DModel): text and picture tokens in, the velocity of the picture out.

    prepared = network.prepare(text, lengths, grids, references)  # grids (rows, columns): the noise's, then the references'
    modulation = network.modulation(timesteps)                    # of all steps at once, timesteps from 1 to 0
    velocity = network.step(latents, prepared, modulation.at(i))  # pure, so that it can be compiled

Everything that does not depend on the latents is in the first two; a third of the weights serve the second alone. Tokens are
picture, then text: the order is free, as positions are given, and a shorter text of a batch ends earlier.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from models.checkpoint.weights import WeightMap
from models.config import Config, ConfigError
from models.layers.fused import Part
from models.layers.rope import Positions, rotary_table
from models.transformers.blocks import (
    Embedding,
    GeluFeedForward,
    JointAttention,
    Projection,
    attend,
    clamp_float16,
    modulated_norm,
    modulation_rows,
    sinusoid,
    stream_dtype,
)

WEIGHTS = WeightMap(
    fuse={"to_qkv": ("to_q", "to_k", "to_v"), "to_added_qkv": ("add_q_proj", "add_k_proj", "add_v_proj")}
)

# Constants of the reference that are not in its config.
EPS = 1e-6
ROPE_THETA = 10000
MLP_RATIO = 4
TIME_CHANNELS = 256

Grid = tuple[int, int]  # rows and columns of tokens


@dataclass(frozen=True)
class QwenImageConfig(Config):
    patch_size: int = 2
    in_channels: int = 64
    out_channels: int | None = 16
    num_layers: int = 60
    attention_head_dim: int = 128
    num_attention_heads: int = 24
    joint_attention_dim: int = 3584
    axes_dims_rope: tuple[int, int, int] = (16, 56, 56)
    guidance_embeds: bool = False
    zero_cond_t: bool = False
    use_additional_t_cond: bool = False
    use_layer3d_rope: bool = False

    def __post_init__(self) -> None:
        for name in ("guidance_embeds", "use_additional_t_cond", "use_layer3d_rope"):
            if getattr(self, name):
                raise ConfigError(f"{type(self).__name__}: {name} is true; only false is supported")
        if sum(self.axes_dims_rope) != self.attention_head_dim:
            raise ConfigError(
                f"{type(self).__name__}: axes_dims_rope {list(self.axes_dims_rope)} do not add up to attention_head_dim, "
                f"{self.attention_head_dim}"
            )

    @property
    def width(self) -> int:
        return self.num_attention_heads * self.attention_head_dim

    @property
    def mlp_width(self) -> int:
        return MLP_RATIO * self.width

    @property
    def out_features(self) -> int:
        return self.patch_size**2 * (self.out_channels or self.in_channels)


class Prepared(NamedTuple):
    """Inputs shared by the steps of one picture: the embedded text (1 or batch, token, width) and reference pictures (1, token,
    width), the rotations of all tokens, and how many of them each member of a batch has, where texts differ in length."""

    text: mx.array
    references: mx.array | None
    table: mx.array
    lengths: tuple[int, ...] | None


class Rows(NamedTuple):
    """Of one block, (1, row, width): shift, scale (one already added) and gate of attention, then of the MLP. `still`: those
    of references at time 0, which only some networks have."""

    image: mx.array
    text: mx.array
    still: mx.array | None


class Modulation(NamedTuple):
    """Each block's rows and those of the last norm, (step, row, width), or of one step, (1, row, width)."""

    blocks: tuple[Rows, ...]
    out: mx.array

    def at(self, step: int) -> "Modulation":
        one = slice(step, step + 1)
        return Modulation(
            tuple(Rows(rows.image[one], rows.text[one], rows.still) for rows in self.blocks), self.out[one]
        )


def shifted(x: mx.array, rows: mx.array) -> mx.array:
    """The norm of x with a shift and a scale, the first two of `rows`."""
    return modulated_norm(x, rows[:, 1], rows[:, 0], EPS)


class DoubleBlock(nn.Module):
    """Text and picture side by side."""

    def __init__(self, config: QwenImageConfig) -> None:
        super().__init__()
        width = config.width
        self.img_mod = [nn.SiLU(), nn.Linear(width, 6 * width)]
        self.txt_mod = [nn.SiLU(), nn.Linear(width, 6 * width)]
        self.attn = JointAttention(config.num_attention_heads, config.attention_head_dim, EPS, bias=True)
        self.img_mlp = GeluFeedForward(width, config.mlp_width)
        self.txt_mlp = GeluFeedForward(width, config.mlp_width)

    def rows(self, activated: mx.array, still: mx.array | None) -> Rows:
        """For the activated times of all steps, and for time 0."""
        of_references = None if still is None else modulation_rows(self.img_mod[1](still), 6, (1, 4))
        return Rows(
            modulation_rows(self.img_mod[1](activated), 6, (1, 4)),
            modulation_rows(self.txt_mod[1](activated), 6, (1, 4)),
            of_references,
        )

    def __call__(
        self, image: mx.array, text: mx.array, prepared: Prepared, rows: Rows
    ) -> tuple[mx.array, mx.array]:
        image_out, text_out = self._attend(
            self._shifted(image, prepared, rows, 0), shifted(text, rows.text), prepared
        )
        image = image + self._gated(image_out, prepared, rows, 2)
        text = text + rows.text[:, 2:3] * text_out
        image_out = self.img_mlp(self._shifted(image, prepared, rows, 3))
        image = image + self._gated(image_out, prepared, rows, 5)
        text = text + rows.text[:, 5:6] * self.txt_mlp(shifted(text, rows.text[:, 3:]))
        return clamp_float16(image), clamp_float16(text)

    def _attend(self, image: mx.array, text: mx.array, prepared: Prepared) -> tuple[mx.array, mx.array]:
        attn = self.attn
        parts = [
            Part(attn.to_qkv(image), attn.norm_q, attn.norm_k),
            Part(attn.to_added_qkv(text), attn.norm_added_q, attn.norm_added_k),
        ]
        out = attend(parts, prepared.table, attn.heads, attn.head_dim, prepared.lengths)
        tokens = image.shape[1]
        return attn.to_out[0](out[:, :tokens]), attn.to_add_out(out[:, tokens:])

    @staticmethod
    def _shifted(image: mx.array, prepared: Prepared, rows: Rows, first: int) -> mx.array:
        """The norm with the rows from `first` on; references have their own at time 0."""
        if prepared.references is None or rows.still is None:
            return shifted(image, rows.image[:, first:])
        drawn = image.shape[1] - prepared.references.shape[1]
        parts = (image[:, :drawn], rows.image), (image[:, drawn:], rows.still)
        return mx.concatenate([shifted(tokens, own[:, first:]) for tokens, own in parts], axis=1)

    @staticmethod
    def _gated(out: mx.array, prepared: Prepared, rows: Rows, row: int) -> mx.array:
        gates = rows.image[:, row : row + 1]
        if prepared.references is None or rows.still is None:
            return gates * out
        drawn = out.shape[1] - prepared.references.shape[1]
        still = rows.still[:, row : row + 1]
        return mx.concatenate([gates * out[:, :drawn], still * out[:, drawn:]], axis=1)


class Time(nn.Module):
    def __init__(self, config: QwenImageConfig) -> None:
        super().__init__()
        self.timestep_embedder = Embedding(TIME_CHANNELS, config.width, bias=True)

    def __call__(self, timesteps: Sequence[float], dtype: mx.Dtype) -> mx.array:
        return self.timestep_embedder(sinusoid(timesteps, TIME_CHANNELS).astype(dtype))


class QwenImageTransformer(nn.Module):
    def __init__(self, config: QwenImageConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.time_text_embed = Time(config)
        self.txt_norm = nn.RMSNorm(config.joint_attention_dim, eps=EPS)
        self.img_in = nn.Linear(config.in_channels, width)
        self.txt_in = nn.Linear(config.joint_attention_dim, width)
        self.transformer_blocks = [DoubleBlock(config) for _ in range(config.num_layers)]
        self.norm_out = Projection(width, 2, scales=(0,), bias=True)
        self.proj_out = nn.Linear(width, config.out_features)

    @property
    def dtype(self) -> mx.Dtype:
        return stream_dtype(self)

    def prepare(
        self,
        text: mx.array,
        lengths: Sequence[int],
        grids: Sequence[Grid],
        references: mx.array | None = None,
    ) -> Prepared:
        """Embed the inputs that the steps share. `text` (batch, token, joint_attention_dim), of which so many tokens are real;
        `references` (1, token, in_channels)."""
        dtype = self.dtype
        positions = np.concatenate([picture_positions(grids), text_positions(text.shape[1], grids)])
        table = rotary_table(positions, self.config.axes_dims_rope, ROPE_THETA)
        embedded = None if references is None else self.img_in(references.astype(dtype))
        tokens = sum(rows * columns for rows, columns in grids)
        differ = any(length != text.shape[1] for length in lengths)
        ends = tuple(tokens + length for length in lengths) if differ else None
        return Prepared(self.txt_in(self.txt_norm(text.astype(dtype))), embedded, table, ends)

    def modulation(self, timesteps: Sequence[float]) -> Modulation:
        """For all steps, with timesteps from 1 (noise) to 0 (picture)."""
        activated = nn.silu(self.time_text_embed(timesteps, self.dtype))
        still = nn.silu(self.time_text_embed([0.0], self.dtype)) if self.config.zero_cond_t else None
        return Modulation(
            tuple(block.rows(activated, still) for block in self.transformer_blocks), self.norm_out(activated)
        )

    def step(self, latents: mx.array, prepared: Prepared, modulation: Modulation) -> mx.array:
        """The velocity at `latents` (batch, token, in_channels), with the modulation of one step."""
        text, references = prepared.text, prepared.references
        image = self.img_in(latents.astype(text.dtype))
        if references is not None:
            repeated = mx.broadcast_to(references, (len(image), *references.shape[1:]))
            image = mx.concatenate([image, repeated], axis=1)
        for block, rows in zip(self.transformer_blocks, modulation.blocks, strict=True):
            image, text = block(image, text, prepared, rows)
        picture = image[:, : latents.shape[1]]
        return self.proj_out(modulated_norm(picture, modulation.out[:, 0], modulation.out[:, 1], EPS))


def picture_positions(grids: Sequence[Grid]) -> Positions:
    """Pictures count on the first axis, and their rows and columns from the middle on."""
    positions = []
    for index, (rows, columns) in enumerate(grids):
        places = np.indices((1, rows, columns)).reshape(3, -1).T
        positions.append(places + np.array([index, rows // 2 - rows, columns // 2 - columns]))
    return np.concatenate(positions)


def text_positions(tokens: int, grids: Sequence[Grid]) -> Positions:
    """On the diagonal, behind the farthest corner of all pictures."""
    first = max(side // 2 for grid in grids for side in grid)
    return np.repeat(np.arange(first, first + tokens)[:, None], 3, axis=1)
