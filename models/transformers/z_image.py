"""The Z-Image transformer (ZImageTransformer2DModel): caption and picture tokens in, minus the velocity out.

    prepared = network.prepare(captions, rows, columns)  # of tokens
    modulation = network.modulation(timesteps)            # of all steps at once, timesteps from 0 to 1
    prediction = network.step(tokens, prepared, modulation.at(i))  # pure, so that it can be compiled

Everything that does not depend on the latents, the caption's refiner too, is in the first two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from models.checkpoint.weights import WeightMap
from models.config import Config, ConfigError
from models.layers.fused import Part, swiglu
from models.layers.rope import Positions, rotary_table
from models.transformers.blocks import attend, modulated_norm, sinusoid, stream_dtype

WEIGHTS = WeightMap(fuse={"to_qkv": ("to_q", "to_k", "to_v"), "w13": ("w1", "w3")})

# Constants of the reference that are not in its config.
SEQUENCE_MULTIPLE = 32
TIME_WIDTH = 256
TIME_HIDDEN = 1024
TIME_CHANNELS = 256
ATTENTION_EPS = 1e-5
FINAL_EPS = 1e-6


@dataclass(frozen=True)
class ZImageConfig(Config):
    in_channels: int
    dim: int
    n_layers: int
    n_refiner_layers: int
    n_heads: int
    cap_feat_dim: int
    axes_dims: tuple[int, ...]
    all_patch_size: tuple[int, ...] = (2,)
    all_f_patch_size: tuple[int, ...] = (1,)
    norm_eps: float = 1e-5
    qk_norm: bool = True
    siglip_feat_dim: int | None = None
    rope_theta: float = 256.0
    t_scale: float = 1000.0

    def __post_init__(self) -> None:
        if self.siglip_feat_dim is not None:
            raise ConfigError(
                "ZImageConfig: siglip_feat_dim is set; pictures as conditions are not supported"
            )
        if self.head_dim != sum(self.axes_dims):
            raise ConfigError(f"ZImageConfig: axes_dims {self.axes_dims} do not add up to {self.head_dim}")

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads

    @property
    def mlp_width(self) -> int:
        return int(self.dim / 3 * 8)

    @property
    def time_width(self) -> int:
        return min(self.dim, TIME_WIDTH)

    @property
    def patches(self) -> dict[str, int]:
        """The features of a token for each patch size, by the names in the weights."""
        sizes = zip(self.all_patch_size, self.all_f_patch_size, strict=True)
        return {f"{size}-{frames}": frames * size * size * self.in_channels for size, frames in sizes}


class Prepared(NamedTuple):
    """Inputs shared by the steps of one picture: the refined captions (batch, token, width), the rotations of the picture's
    tokens and of picture and caption together, and how many tokens each has, where captions differ in length."""

    caption: mx.array
    picture_table: mx.array
    table: mx.array
    lengths: tuple[int, ...] | None


class Modulation(NamedTuple):
    """The weights of each block's modulated norms, (step, norm, width), or of one step, (norm, width)."""

    refiner: tuple[mx.array, ...]
    layers: tuple[mx.array, ...]
    final: mx.array

    def at(self, step: int) -> "Modulation":
        refiner, layers = (tuple(norms[step] for norms in blocks) for blocks in self[:2])
        return Modulation(refiner, layers, self.final[step])


# What a ControlNet adds to picture and caption behind each layer, (batch, token, width); empty: there is none.
Residuals: TypeAlias = tuple[mx.array | None, ...]
Stream: TypeAlias = tuple[mx.array]


class Attention(nn.Module):
    def __init__(self, config: ZImageConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = config.n_heads, config.head_dim
        self.to_qkv = nn.Linear(config.dim, 3 * config.dim, bias=False)
        self.to_out = [nn.Linear(config.dim, config.dim, bias=False)]
        if config.qk_norm:
            self.norm_q = nn.RMSNorm(config.head_dim, eps=ATTENTION_EPS)
            self.norm_k = nn.RMSNorm(config.head_dim, eps=ATTENTION_EPS)

    def __call__(self, x: mx.array, table: mx.array, lengths: Sequence[int] | None) -> mx.array:
        part = Part(self.to_qkv(x), self.get("norm_q"), self.get("norm_k"))
        return self.to_out[0](attend([part], table, self.heads, self.head_dim, lengths))


class FeedForward(nn.Module):
    def __init__(self, config: ZImageConfig) -> None:
        super().__init__()
        self.w13 = nn.Linear(config.dim, 2 * config.mlp_width, bias=False)
        self.w2 = nn.Linear(config.mlp_width, config.dim, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.w2(swiglu(self.w13(x)))


class Block(nn.Module):
    """Sandwich norms around attention and MLP. A modulation scales the norms before and gates the norms after, so
    it is folded into their weights: `norms` has the four of them, (norm, width)."""

    def __init__(self, config: ZImageConfig, modulated: bool = True) -> None:
        super().__init__()
        self.eps = config.norm_eps
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)
        self.attention_norm1 = nn.RMSNorm(config.dim)
        self.attention_norm2 = nn.RMSNorm(config.dim)
        self.ffn_norm1 = nn.RMSNorm(config.dim)
        self.ffn_norm2 = nn.RMSNorm(config.dim)
        if modulated:
            self.adaLN_modulation = [nn.Linear(config.time_width, 4 * config.dim)]

    @property
    def norms(self) -> mx.array:
        layers = (self.attention_norm1, self.attention_norm2, self.ffn_norm1, self.ffn_norm2)
        return mx.stack([layer.weight for layer in layers])

    def modulation(self, embedded: mx.array) -> mx.array:
        """The norms' weights under each time embedding, (step, norm, width)."""
        rows = self.adaLN_modulation[0](embedded).reshape(len(embedded), 4, -1)
        before, after = 1 + rows[:, 0::2], mx.tanh(rows[:, 1::2])
        factors = mx.stack([before, after], axis=2).reshape(rows.shape)
        return factors * self.norms

    def __call__(
        self, x: mx.array, norms: mx.array, table: mx.array, lengths: Sequence[int] | None = None
    ) -> mx.array:
        out = self.attention(mx.fast.rms_norm(x, norms[0], self.eps), table, lengths)
        x = x + mx.fast.rms_norm(out, norms[1], self.eps)
        out = self.feed_forward(mx.fast.rms_norm(x, norms[2], self.eps))
        return x + mx.fast.rms_norm(out, norms[3], self.eps)


class TimeEmbedder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = [nn.Linear(TIME_CHANNELS, TIME_HIDDEN), nn.SiLU(), nn.Linear(TIME_HIDDEN, width)]

    def __call__(self, timesteps: Sequence[float], scale: float, dtype: mx.Dtype) -> mx.array:
        x = sinusoid(timesteps, TIME_CHANNELS, scale).astype(dtype)
        for layer in self.mlp:
            x = layer(x)
        return x


class FinalLayer(nn.Module):
    def __init__(self, config: ZImageConfig, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(config.dim, features)
        self.adaLN_modulation = [nn.SiLU(), nn.Linear(config.time_width, config.dim)]

    def modulation(self, embedded: mx.array) -> mx.array:
        return 1 + self.adaLN_modulation[1](self.adaLN_modulation[0](embedded))

    def __call__(self, x: mx.array, scale: mx.array) -> mx.array:
        return self.linear(modulated_norm(x, scale[None], None, FINAL_EPS))


class ZImageTransformer(nn.Module):
    def __init__(self, config: ZImageConfig, patch: str | None = None) -> None:
        super().__init__()
        self.config = config
        # A checkpoint may support several patch sizes; like the reference's pipeline, a network uses one of them.
        self.patch = next(iter(config.patches)) if patch is None else patch
        self.all_x_embedder = {name: nn.Linear(size, config.dim) for name, size in config.patches.items()}
        self.all_final_layer = {name: FinalLayer(config, size) for name, size in config.patches.items()}
        self.t_embedder = TimeEmbedder(config.time_width)
        self.cap_embedder = [
            nn.RMSNorm(config.cap_feat_dim, eps=config.norm_eps),
            nn.Linear(config.cap_feat_dim, config.dim),
        ]
        self.x_pad_token = mx.zeros((1, config.dim))
        self.cap_pad_token = mx.zeros((1, config.dim))
        refiners = range(config.n_refiner_layers)
        self.noise_refiner = [Block(config) for _ in refiners]
        self.context_refiner = [Block(config, modulated=False) for _ in refiners]
        self.layers = [Block(config) for _ in range(config.n_layers)]

    @property
    def dtype(self) -> mx.Dtype:
        return stream_dtype(self)

    def prepare(self, captions: Sequence[mx.array], rows: int, columns: int) -> Prepared:
        """Refine the captions, (token, cap_feat_dim) each and of any length, for a picture of rows x columns tokens."""
        refined = [self._refine(caption) for caption in captions]
        lengths = [len(caption) for caption in refined]
        longest = max(lengths)
        pictures = [picture_positions(length, rows, columns) for length in lengths]
        together = [np.concatenate([picture, caption_positions(longest)]) for picture in pictures]
        differ = len(set(lengths)) > 1
        if not differ:  # One table serves the whole batch.
            pictures, together = pictures[:1], together[:1]
        caption = mx.stack([mx.pad(x, [(0, longest - len(x)), (0, 0)]) for x in refined])
        ends = tuple(len(pictures[0]) + length for length in lengths) if differ else None
        return Prepared(caption, self._table(pictures), self._table(together), ends)

    def _refine(self, caption: mx.array) -> mx.array:
        """A caption embedded, padded to the multiple with the learned token, and refined, (token, width)."""
        norm, linear = self.cap_embedder
        x = padded(linear(norm(caption.astype(self.dtype)))[None], self.cap_pad_token)
        table = self._table([caption_positions(x.shape[1])])
        for block in self.context_refiner:
            x = block(x, block.norms, table)
        return x[0]

    def _table(self, positions: Sequence[Positions]) -> mx.array:
        return rotary_table(np.stack(positions), self.config.axes_dims, self.config.rope_theta)

    def modulation(self, timesteps: Sequence[float]) -> Modulation:
        """For all steps, with timesteps from 0 (noise) to 1 (picture)."""
        embedded = self.t_embedder(timesteps, self.config.t_scale, self.dtype)
        return Modulation(
            tuple(block.modulation(embedded) for block in self.noise_refiner),
            tuple(block.modulation(embedded) for block in self.layers),
            self.all_final_layer[self.patch].modulation(embedded),
        )

    def warmup_block(self, prepared: Prepared) -> mx.array:
        """One block over picture and caption: a device plans its kernels for so many tokens once for all blocks."""
        block = self.layers[0]
        x = mx.zeros((1, prepared.table.shape[2], self.config.dim), self.dtype)
        return block(x, block.norms, prepared.table)

    def embed(self, tokens: mx.array) -> mx.array:
        """A picture's tokens, padded to the multiple."""
        return padded(self.all_x_embedder[self.patch](tokens.astype(self.dtype)), self.x_pad_token)

    def step(
        self,
        tokens: mx.array,
        prepared: Prepared,
        modulation: Modulation,
        residuals: Residuals = (),
    ) -> mx.array:
        """The prediction at `tokens` (batch, token, features), with the modulation of one step."""
        streams = self.begin(tokens, prepared, modulation)
        streams = self.first_block(streams, prepared, modulation, residuals)
        return self.output(self.other_blocks(streams, prepared, modulation, residuals), tokens, modulation)

    # A step in parts, some of which may be reused. The one stream is the picture with its caption.

    def begin(self, tokens: mx.array, prepared: Prepared, modulation: Modulation) -> Stream:
        x = self.embed(tokens)
        for block, norms in zip(self.noise_refiner, modulation.refiner, strict=True):
            x = block(x, norms, prepared.picture_table)
        return (mx.concatenate([x, prepared.caption], axis=1),)

    def first_block(
        self, streams: Stream, prepared: Prepared, modulation: Modulation, residuals: Residuals = ()
    ) -> Stream:
        return (self._layers(streams, prepared, modulation, residuals, slice(0, 1)),)

    def other_blocks(
        self, streams: Stream, prepared: Prepared, modulation: Modulation, residuals: Residuals = ()
    ) -> mx.array:
        return self._layers(streams, prepared, modulation, residuals, slice(1, None))

    def output(self, x: mx.array, tokens: mx.array, modulation: Modulation) -> mx.array:
        return self.all_final_layer[self.patch](x[:, : tokens.shape[1]], modulation.final)

    def _layers(
        self, streams: Stream, prepared: Prepared, modulation: Modulation, residuals: Residuals, which: slice
    ) -> mx.array:
        (x,) = streams
        layers = self.layers[which]
        more = residuals[which] or (None,) * len(layers)
        for block, norms, residual in zip(layers, modulation.layers[which], more, strict=True):
            x = block(x, norms, prepared.table, prepared.lengths)
            x = x if residual is None else x + residual
        return x


def caption_positions(tokens: int) -> Positions:
    """A caption counts from 1 on the first axis."""
    return np.pad(np.arange(1, tokens + 1)[:, None], ((0, 0), (0, 2)))


def picture_positions(caption: int, rows: int, columns: int) -> Positions:
    """A picture follows its caption on the first axis; padding tokens are at the origin."""
    tokens = np.stack(np.meshgrid([caption + 1], range(rows), range(columns), indexing="ij"), -1).reshape(
        -1, 3
    )
    return np.pad(tokens, ((0, -len(tokens) % SEQUENCE_MULTIPLE), (0, 0)))


def padded(x: mx.array, token: mx.array) -> mx.array:
    """Pad (batch, token, width) to the multiple with a learned token."""
    missing = -x.shape[1] % SEQUENCE_MULTIPLE
    if not missing:
        return x
    return mx.concatenate([x, mx.broadcast_to(token, (len(x), missing, x.shape[2]))], axis=1)
