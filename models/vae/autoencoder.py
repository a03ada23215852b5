"""What all autoencoders have in common: between pictures and latents, whole or strip by strip, and previews."""

from typing import Protocol

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from models.vae.latent_codec import LatentCodec
from models.vae.strips import Strips
from models.vae.tiling import Materialized, TileScheduler


class Network(Protocol):
    """An encoder or a decoder: to `recompute` keeps less of the outermost block."""

    conv_in: nn.Conv2d

    def __call__(self, image: Materialized, /, recompute: bool = False) -> Materialized: ...


class Sizes(Protocol):
    """What is read of an autoencoder's configuration."""

    @property
    def latent_channels(self) -> int: ...

    @property
    def scale(self) -> int: ...

    @property
    def outermost(self) -> int: ...

    @property
    def use_quant_conv(self) -> bool: ...

    @property
    def use_post_quant_conv(self) -> bool: ...


class Autoencoder(nn.Module, LatentCodec):
    """An encoder that gives means and spreads, and a decoder. Subclasses scale latents for the transformer."""

    def __init__(self, config: Sizes, encoder: Network, decoder: Network) -> None:
        super().__init__()
        self.config = config
        channels = config.latent_channels
        self.encoder = encoder
        self.decoder = decoder
        if config.use_quant_conv:
            self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1)
        if config.use_post_quant_conv:
            self.post_quant_conv = nn.Conv2d(channels, channels, 1)

    @property
    def channels(self) -> int:
        return self.config.latent_channels

    @property
    def scale(self) -> int:
        return self.config.scale

    @property
    def dtype(self) -> mx.Dtype:
        return self.decoder.conv_in.weight.dtype

    def to_transformer(self, latents: mx.array) -> mx.array:
        raise NotImplementedError

    def from_transformer(self, latents: mx.array) -> mx.array:
        raise NotImplementedError

    def encode(
        self, picture: mx.array, noise: mx.array | None = None, strips: Strips | int | None = None
    ) -> mx.array:
        """Latents of pictures [n, height, width, 3] between -1 and 1, whose sides are multiples of the config's scale.

        The most likely ones, or with noise [n, height / scale, width / scale, latent channels] a sample.
        """
        chosen = self._strips(strips, picture.shape, 1)
        moments = self.encoder(self._tiled(picture, chosen), bool(chosen and chosen.recompute)).whole()
        if "quant_conv" in self:
            moments = self.quant_conv(moments)
        latents, spread = mx.split(moments, 2, axis=-1)
        if noise is not None:
            latents = latents + mx.exp(0.5 * mx.clip(spread, -30.0, 20.0)) * noise.astype(latents.dtype)
        return self.to_transformer(latents)

    def decode(self, latents: mx.array, strips: Strips | int | None = None) -> mx.array:
        """Pictures [n, height, width, 3], mostly between -1 and 1.

        Unevaluated, as a whole; or evaluated in strips: the given ones, or those that hold about so many bytes.
        """
        return self._decode(self.from_transformer(latents), strips)

    def preview(self, latents: mx.array, longest: int = 256) -> mx.array:
        """A reduced picture: latents are averaged until it is no longer than `longest` pixels."""
        latents = self.from_transformer(latents)
        height, width = latents.shape[1:3]
        ratio = min(1.0, longest / (self.config.scale * max(height, width)))
        across = averages(height, max(1, int(height * ratio)))
        along = averages(width, max(1, int(width * ratio)))
        small = mx.einsum("yh,nhwc,xw->nyxc", across, latents.astype(mx.float32), along)
        return self._decode(small, None)

    def _decode(self, latents: mx.array, strips: Strips | int | None) -> mx.array:
        chosen = self._strips(strips, latents.shape, self.config.scale)
        tiled = self._tiled(latents, chosen)
        if "post_quant_conv" in self:
            tiled = Materialized([self.post_quant_conv(tiled.whole())], tiled.scheduler)
        return self.decoder(tiled, bool(chosen and chosen.recompute)).whole()

    def _strips(self, strips: Strips | int | None, shape: tuple[int, ...], scale: int) -> Strips | None:
        """The strips for pictures of `scale` times this shape."""
        if strips is None or isinstance(strips, Strips):
            return strips
        n, height, width = shape[0], shape[1] * scale, shape[2] * scale
        plane = n * height * width * self.config.outermost * self.dtype.size
        return Strips.within(strips, height, plane, unfolds=mx.default_device() == mx.cpu)

    def _tiled(self, image: mx.array, strips: Strips | None) -> Materialized:
        scheduler = None if strips is None else TileScheduler(strips.rows)
        return Materialized([image.astype(self.dtype)], scheduler)


def averages(size: int, parts: int) -> mx.array:
    """A matrix [parts, size] that averages equal stretches; pixels on a border count by their share."""
    edges = np.arange(parts + 1) * (size / parts)
    covered = np.minimum(edges[1:, None], np.arange(1, size + 1)) - np.maximum(
        edges[:-1, None], np.arange(size)
    )
    return mx.array(np.maximum(covered, 0) * (parts / size), dtype=mx.float32)
