"""The networks of a family that has nothing in common with the others: a codec without convolutions, whose latents are
blocks of four pixels, and a transformer that attends to a prompt through its mask."""

from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from models.config import Config
from models.layers.patchify import patchify, unpatchify
from models.vae.strips import Strips


@dataclass(frozen=True)
class ToyConfig(Config):
    channels: int = 5
    width: int = 24
    vocab_size: int = 420


class BlockCodec(nn.Module):
    """A LatentCodec."""

    scale = 4

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.channels = config.channels
        self.to_latents = nn.Linear(3 * self.scale**2, config.channels)
        self.to_pixels = nn.Linear(config.channels, 3 * self.scale**2)

    @property
    def dtype(self) -> mx.Dtype:
        return self.to_latents.weight.dtype

    def encode(
        self, picture: mx.array, noise: mx.array | None = None, strips: Strips | int | None = None
    ) -> mx.array:
        latents = self.to_latents(patchify(picture.astype(self.dtype), self.scale))
        return latents if noise is None else latents + 0.1 * noise

    def decode(self, latents: mx.array, strips: Strips | int | None = None) -> mx.array:
        return unpatchify(mx.tanh(self.to_pixels(latents.astype(self.dtype))), self.scale)

    def preview(self, latents: mx.array, longest: int) -> mx.array:
        every = -(-max(latents.shape[1:3]) * self.scale // longest)
        return self.decode(latents[:, ::every, ::every])


class Embedder(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.width)

    def __call__(self, ids: mx.array) -> mx.array:
        return self.tokens(ids)


class Prepared(NamedTuple):
    text: mx.array  # [batch, token, width]
    mask: mx.array  # [batch, 1, 1, token]


class Modulation(NamedTuple):
    shifts: mx.array  # [step, width]

    def at(self, step: int) -> mx.array:
        return self.shifts[step]


class ToyTransformer(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.into = nn.Linear(config.channels, config.width)
        self.kv = nn.Linear(config.width, 2 * config.width)
        self.out = nn.Linear(config.width, config.channels)

    def prepare(self, text: mx.array, mask: mx.array) -> Prepared:
        return Prepared(text, mask[:, None, None].astype(mx.bool_))

    def modulation(self, timesteps: list[float]) -> Modulation:
        return Modulation(mx.array(np.cos(np.outer(timesteps, np.arange(self.into.weight.shape[0])))))

    def step(self, tokens: mx.array, prepared: Prepared, shift: mx.array) -> mx.array:
        queries = self.into(tokens) + shift
        keys, values = mx.split(self.kv(prepared.text), 2, axis=-1)
        attended = mx.fast.scaled_dot_product_attention(
            queries[:, None], keys[:, None], values[:, None], scale=0.2, mask=prepared.mask
        )
        return self.out(queries + attended[:, 0])
