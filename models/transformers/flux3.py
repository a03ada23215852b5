"""The FLUX.3 transformer (Flux3Transformer2DModel): text and picture tokens in, the velocity of the picture out.

    prepared = network.prepare(texts, picture_positions, references, reference_positions)
    modulation = network.modulation(timesteps)                   # of all steps at once, timesteps from 1 to 0
    velocity = network.step(latents, prepared, modulation.at(i))  # pure, so that it can be compiled

Text, picture and references first go through blocks of their own, then through joint ones. Text and references are at
timestep 0: unless the network is a flow map, which is told the next timestep too, their own blocks are in `prepare`. Tokens
are picture, references, text: the order is free, as positions are given, and a shorter text of a batch ends earlier.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from models.checkpoint.weights import WeightMap
from models.config import Config
from models.layers.fused import Part, swiglu
from models.layers.rope import Positions, rotary_table
from models.transformers.blocks import Embedding, attend, modulated_norm, sinusoid, stream_dtype

WEIGHTS = WeightMap(
    rename=(
        ("attn.to_q", "to_q"),
        ("attn.to_k", "to_k"),
        ("attn.to_v", "to_v"),
        ("ff.linear_in", "linear_in"),
    ),
    fuse={"to_qkv_mlp": ("to_q", "to_k", "to_v", "linear_in")},
)
PICTURE, REFERENCES, TEXT = MODES = ("image", "image_cond", "txt")
HALVES = (mx.float16, mx.bfloat16)
Lengths: TypeAlias = tuple[int, ...] | None


@dataclass(frozen=True)
class Flux3Config(Config):
    in_channels: int = 128
    cond_in_channels: int = 128
    num_layers: int = 5
    num_single_layers: int = 28
    attention_head_dim: int = 128
    num_attention_heads: int = 24
    joint_attention_dim: int = 20480
    timestep_channels: int = 256
    mlp_ratio: float = 3.0
    axes_dims_rope: tuple[int, ...] = (32, 32, 32, 32)
    rope_theta: float = 10000.0
    eps: float = 1e-6
    flow_map: bool = False

    @property
    def width(self) -> int:
        return self.num_attention_heads * self.attention_head_dim

    @property
    def mlp_width(self) -> int:
        return int(self.width * self.mlp_ratio)


class Tokens(NamedTuple):
    """Embedded tokens of one kind, (1 or batch, token, width), and their rotations."""

    embedded: mx.array
    table: mx.array


class Prepared(NamedTuple):
    """Inputs shared by the steps of one picture: the text, the reference pictures if there are any, the rotations of the
    picture and of all tokens; and how many tokens each text and each member of a batch has, where texts differ in length."""

    text: Tokens
    references: Tokens | None
    picture_table: mx.array
    table: mx.array
    text_lengths: Lengths
    lengths: Lengths


class Modulation(NamedTuple):
    """For each kind of tokens, the rows (shift, scale with one added, gate) of its own blocks and of the joint blocks, (step,
    row, width), or of one step, (row, width); `out` has scale and shift."""

    picture: tuple[mx.array, mx.array]
    references: tuple[mx.array, mx.array]
    text: tuple[mx.array, mx.array]
    out: mx.array

    def at(self, step: int) -> "Modulation":
        picture, references, text = ((own[step], joint[step]) for own, joint in self[:3])
        return Modulation(picture, references, text, self.out[step])


class Attention(nn.Module):
    """What the checkpoint has under this name, without the projections that the block computes with its MLP's."""

    def __init__(self, config: Flux3Config) -> None:
        super().__init__()
        self.norm_q = nn.RMSNorm(config.attention_head_dim, eps=config.eps)
        self.norm_k = nn.RMSNorm(config.attention_head_dim, eps=config.eps)
        self.to_out = [nn.Linear(config.width, config.width, bias=False)]


class FeedForward(nn.Module):
    def __init__(self, config: Flux3Config) -> None:
        super().__init__()
        self.linear_out = nn.Linear(config.mlp_width, config.width, bias=False)


class Block(nn.Module):
    """Attention and MLP side by side, from one modulated norm; of one kind of tokens, or joint."""

    def __init__(self, config: Flux3Config) -> None:
        super().__init__()
        self.eps, self.width = config.eps, config.width
        self.heads, self.head_dim = config.num_attention_heads, config.attention_head_dim
        self.to_qkv_mlp = nn.Linear(config.width, 3 * config.width + 2 * config.mlp_width, bias=False)
        self.attn = Attention(config)
        self.ff = FeedForward(config)

    def __call__(
        self, parts: Sequence[mx.array], rows: Sequence[mx.array], table: mx.array, lengths: Lengths = None
    ) -> list[mx.array]:
        """`parts` (batch, token, width) of a sequence, each with its rows of modulation."""
        normed = [modulated_norm(x, r[1:2], r[0:1], self.eps) for x, r in zip(parts, rows, strict=True)]
        projected = self.to_qkv_mlp(_joined(normed))
        part = Part(projected, self.attn.norm_q, self.attn.norm_k)
        attended = attend([part], table, self.heads, self.head_dim, lengths)
        out = self.attn.to_out[0](attended) + self.ff.linear_out(swiglu(projected[..., 3 * self.width :]))
        ends = np.cumsum([x.shape[1] for x in parts[:-1]]).tolist()
        split = mx.split(out, ends, axis=1)
        return [x + r[2] * more for x, r, more in zip(parts, rows, split, strict=True)]


class Projection(nn.Module):
    """From a time embedding to rows of modulation; 1 is added to the second, the scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 3 * width, bias=False)

    def __call__(self, activated: mx.array) -> mx.array:
        rows = self.linear(activated).reshape(len(activated), 3, -1)
        return rows + mx.array([[0], [1], [0]], dtype=rows.dtype)


class FinalNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * width, bias=False)

    def __call__(self, activated: mx.array) -> mx.array:
        rows = self.linear(activated).reshape(len(activated), 2, -1)
        return rows + mx.array([[1], [0]], dtype=rows.dtype)


class Flux3Transformer(nn.Module):
    def __init__(self, config: Flux3Config) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.timestep_embedder = Embedding(config.timestep_channels, width, bias=False)
        if config.flow_map:
            self.target_timestep_embedder = Embedding(config.timestep_channels, width, bias=False)
        self.early_stream_modulations = {mode: Projection(width) for mode in MODES}
        self.single_stream_modulations = {mode: Projection(width) for mode in MODES}
        channels = {PICTURE: config.in_channels, REFERENCES: config.cond_in_channels}
        self.x_embedders = {mode: nn.Linear(size, width, bias=False) for mode, size in channels.items()}
        self.context_embedder = nn.Linear(config.joint_attention_dim, width, bias=False)
        own = range(config.num_layers)
        self.mode_blocks = {mode: [Block(config) for _ in own] for mode in channels}
        self.txt_mode_blocks = [Block(config) for _ in own]
        self.single_transformer_blocks = [Block(config) for _ in range(config.num_single_layers)]
        self.norm_out = FinalNorm(width)
        self.proj_out = nn.Linear(width, config.in_channels, bias=False)

    @property
    def dtype(self) -> mx.Dtype:
        """The norms may be stored in a higher precision than the rest."""
        parameters = cast(list[tuple[str, mx.array]], tree_flatten(self.parameters()))
        dtypes = (value.dtype for _, value in parameters)
        return next((dtype for dtype in dtypes if dtype in HALVES), stream_dtype(self))

    def prepare(
        self,
        texts: Sequence[mx.array],
        picture_positions: Positions,
        references: mx.array | None = None,
        reference_positions: Positions | None = None,
    ) -> Prepared:
        """Embed the texts, (token, joint_attention_dim) each and of any length, and the references (1, token, channel)."""
        counts = [len(text) for text in texts]
        longest, dtype = max(counts), self.dtype
        padded = mx.stack([mx.pad(text, [(0, longest - len(text)), (0, 0)]) for text in texts])
        at = [picture_positions, text_positions(longest)]
        text = Tokens(self.context_embedder(padded.astype(dtype)), self._table(at[-1]))
        shown = None
        if references is not None and reference_positions is not None:
            at.insert(1, reference_positions)
            embedded = self.x_embedders[REFERENCES](references.astype(dtype))
            shown = Tokens(embedded, self._table(reference_positions))
        lengths = text_lengths = None
        if len(set(counts)) > 1:
            before = sum(map(len, at[:-1]))
            text_lengths, lengths = tuple(counts), tuple(before + count for count in counts)
        if not self.config.flow_map:
            text, shown = self._own_blocks(text, shown, self.modulation([0.0]).at(0), text_lengths)
        return Prepared(
            text,
            shown,
            self._table(picture_positions),
            self._table(np.concatenate(at)),
            text_lengths,
            lengths,
        )

    def _table(self, positions: Positions) -> mx.array:
        return rotary_table(positions, self.config.axes_dims_rope, self.config.rope_theta)

    def _own_blocks(
        self, text: Tokens, references: Tokens | None, modulation: Modulation, lengths: Lengths
    ) -> tuple[Tokens, Tokens | None]:
        """Text and references after the blocks of their own."""
        text = _through(self.txt_mode_blocks, text, modulation.text[0], lengths)
        if references is not None:
            references = _through(self.mode_blocks[REFERENCES], references, modulation.references[0])
        return text, references

    def modulation(self, timesteps: Sequence[float]) -> Modulation:
        """For all steps, with timesteps from 1 (noise) to 0 (picture). A flow map takes the next step's too, the last one's
        is 0."""
        dtype = self.dtype
        picture, still = (self._embedded(times, dtype) for times in (timesteps, [0.0] * len(timesteps)))
        if self.config.flow_map:
            following = sinusoid([*timesteps[1:], 0.0], self.config.timestep_channels).astype(dtype)
            target = self.target_timestep_embedder(following)
            picture, still = picture + target, still + target
        activated = {PICTURE: nn.silu(picture), REFERENCES: nn.silu(still), TEXT: nn.silu(still)}
        of_picture, of_references, of_text = (
            (self.early_stream_modulations[mode](x), self.single_stream_modulations[mode](x))
            for mode, x in activated.items()
        )
        return Modulation(of_picture, of_references, of_text, self.norm_out(activated[PICTURE]))

    def _embedded(self, timesteps: Sequence[float], dtype: mx.Dtype) -> mx.array:
        return self.timestep_embedder(sinusoid(timesteps, self.config.timestep_channels).astype(dtype))

    def step(self, latents: mx.array, prepared: Prepared, modulation: Modulation) -> mx.array:
        """The velocity at `latents` (batch, token, in_channels), with the modulation of one step."""
        text, references = prepared.text, prepared.references
        if self.config.flow_map:
            text, references = self._own_blocks(text, references, modulation, prepared.text_lengths)
        embedded = self.x_embedders[PICTURE](latents.astype(text.embedded.dtype))
        picture = _through(
            self.mode_blocks[PICTURE], Tokens(embedded, prepared.picture_table), modulation.picture[0]
        )
        parts, rows = [picture.embedded], [modulation.picture[1]]
        if references is not None:
            shown = references.embedded
            parts.append(mx.broadcast_to(shown, (len(embedded), *shown.shape[1:])))
            rows.append(modulation.references[1])
        parts.append(text.embedded)
        rows.append(modulation.text[1])
        for block in self.single_transformer_blocks:
            parts = block(parts, rows, prepared.table, prepared.lengths)
        scale, shift = modulation.out[0:1], modulation.out[1:2]
        return self.proj_out(modulated_norm(parts[0], scale, shift, self.config.eps))


def text_positions(tokens: int) -> Positions:
    """(time, row, column, index): text counts on the last axis."""
    return np.pad(np.arange(tokens)[:, None], ((0, 0), (3, 0)))


def _through(blocks: Sequence[Block], tokens: Tokens, rows: mx.array, lengths: Lengths = None) -> Tokens:
    x = tokens.embedded
    for block in blocks:
        (x,) = block([x], [rows], tokens.table, lengths)
    return Tokens(x, tokens.table)


def _joined(parts: Sequence[mx.array]) -> mx.array:
    return parts[0] if len(parts) == 1 else mx.concatenate(list(parts), axis=1)
