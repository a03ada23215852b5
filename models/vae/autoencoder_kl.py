"""AutoencoderKL and AutoencoderKLFlux2: pictures to latents and back.

    vae = AutoencoderKL(AutoencoderKLConfig.from_file(path))
    load_component(vae, model.shards("vae"), WEIGHTS)
    latents = vae.encode(picture)            # [n, height, width, 3] from -1 to 1
    picture = vae.decode(latents, 2**30)     # in strips that hold about so many bytes; the result is the same

Latents are as the transformer knows them: scaled and shifted, or for FLUX.2 in 2 x 2 patches normalised by the
statistics in the checkpoint. Everything is channels-last.
"""

import math
from itertools import pairwise

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from models.checkpoint.weights import WeightMap
from models.layers.patchify import patchify, unpatchify
from models.vae.blocks import Downsample, MidBlock, ResnetBlock, Upsample
from models.vae.config import AutoencoderConfig, AutoencoderKLConfig, AutoencoderKLFlux2Config
from models.vae.group_norm import GroupNorm
from models.vae.latent_codec import LatentCodec
from models.vae.strips import Strips
from models.vae.tiling import Lazy, Materialized, TiledImage, TileScheduler, halo, materialize

WEIGHTS = WeightMap(
    drop=("bn.num_batches_tracked",),
    # The names of attention in older checkpoints.
    rename=(("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")),
)


class DownBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, config: AutoencoderConfig, last: bool) -> None:
        super().__init__()
        sizes = [inputs, *[outputs] * config.layers_per_block]
        self.resnets = [ResnetBlock(a, b, config.norm_num_groups) for a, b in pairwise(sizes)]
        if not last:
            self.downsamplers = [Downsample(outputs)]

    def __call__(self, x: TiledImage, recompute: bool) -> TiledImage:
        for resnet in self.resnets:
            x = resnet(x, recompute)
        return self.downsamplers[0](x) if "downsamplers" in self else x


class UpBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, config: AutoencoderConfig, last: bool) -> None:
        super().__init__()
        sizes = [inputs, *[outputs] * (config.layers_per_block + 1)]
        self.resnets = [ResnetBlock(a, b, config.norm_num_groups) for a, b in pairwise(sizes)]
        if not last:
            self.upsamplers = [Upsample(outputs)]

    def __call__(self, x: TiledImage, recompute: bool) -> TiledImage:
        for resnet in self.resnets:
            x = resnet(x, recompute)
        return self.upsamplers[0](x) if "upsamplers" in self else x


class Encoder(nn.Module):
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        sizes, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = nn.Conv2d(config.in_channels, sizes[0], 3, padding=1)
        self.down_blocks = [
            DownBlock(a, b, config, last=i == len(sizes) - 1)
            for i, (a, b) in enumerate(pairwise((sizes[0], *sizes)))
        ]
        self.mid_block = MidBlock(sizes[-1], groups, config.mid_block_add_attention)
        self.conv_norm_out = GroupNorm(groups, sizes[-1])
        self.conv_out = nn.Conv2d(sizes[-1], 2 * config.latent_channels, 3, padding=1)

    def __call__(self, picture: Materialized, recompute: bool = False) -> Materialized:
        x: TiledImage = Lazy(lambda w: w.convolve(self.conv_in.weight, self.conv_in.bias), (picture, halo(1)))
        for i, block in enumerate(self.down_blocks):
            # Only the first block has the picture's size, which makes its memory worth the recomputing.
            x = block(x, recompute and i == 0)
        return _finish(self.mid_block(x), self.conv_norm_out, self.conv_out)


class Decoder(nn.Module):
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        sizes, groups = config.decoder_channels[::-1], config.norm_num_groups
        self.conv_in = nn.Conv2d(config.latent_channels, sizes[0], 3, padding=1)
        self.mid_block = MidBlock(sizes[0], groups, config.mid_block_add_attention)
        self.up_blocks = [
            UpBlock(a, b, config, last=i == len(sizes) - 1)
            for i, (a, b) in enumerate(pairwise((sizes[0], *sizes)))
        ]
        self.conv_norm_out = GroupNorm(groups, sizes[-1])
        self.conv_out = nn.Conv2d(sizes[-1], config.out_channels, 3, padding=1)

    def __call__(self, latents: Materialized, recompute: bool = False) -> Materialized:
        x: TiledImage = self.mid_block(
            Lazy(lambda w: w.convolve(self.conv_in.weight, self.conv_in.bias), (latents, halo(1)))
        )
        for i, block in enumerate(self.up_blocks):
            x = block(x, recompute and i == len(self.up_blocks) - 1)
        return _finish(materialize(x), self.conv_norm_out, self.conv_out)


def _finish(x: Materialized, norm: GroupNorm, conv: nn.Conv2d) -> Materialized:
    fitted = norm.fit(x)
    return materialize(Lazy(lambda w: w.map(fitted.silu).convolve(conv.weight, conv.bias), (x, halo(1))))


class Autoencoder(nn.Module, LatentCodec):
    """What both have in common; they differ in how latents are scaled for the transformer."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
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
        across = _averages(height, max(1, int(height * ratio)))
        along = _averages(width, max(1, int(width * ratio)))
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


class AutoencoderKL(Autoencoder):
    """FLUX.1 and Z-Image. Latents are [n, height / scale, width / scale, latent channels]."""

    config: AutoencoderKLConfig

    def to_transformer(self, latents: mx.array) -> mx.array:
        return (latents - (self.config.shift_factor or 0.0)) * self.config.scaling_factor

    def from_transformer(self, latents: mx.array) -> mx.array:
        return latents / self.config.scaling_factor + (self.config.shift_factor or 0.0)


class Statistics(nn.Module):
    """Batch norm's running statistics of each feature of a patch."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.running_mean = mx.zeros((features,))
        self.running_var = mx.ones((features,))


class AutoencoderKLFlux2(Autoencoder):
    """FLUX.2. Latents are patches: [n, height / 2 scale, width / 2 scale, 4 x latent channels]."""

    config: AutoencoderKLFlux2Config

    def __init__(self, config: AutoencoderKLFlux2Config) -> None:
        super().__init__(config)
        self.bn = Statistics(self.channels)

    @property
    def channels(self) -> int:
        return math.prod(self.config.patch_size) * self.config.latent_channels

    @property
    def scale(self) -> int:
        return self.config.patch_size[0] * self.config.scale

    def to_transformer(self, latents: mx.array) -> mx.array:
        patches = patchify(latents, self.config.patch_size[0])
        return (patches - self.bn.running_mean) / self._deviation()

    def from_transformer(self, latents: mx.array) -> mx.array:
        return unpatchify(latents * self._deviation() + self.bn.running_mean, self.config.patch_size[0])

    def _deviation(self) -> mx.array:
        return mx.sqrt(self.bn.running_var + self.config.batch_norm_eps)


def _averages(size: int, parts: int) -> mx.array:
    """A matrix [parts, size] that averages equal stretches; pixels on a border count by their share."""
    edges = np.arange(parts + 1) * (size / parts)
    covered = np.minimum(edges[1:, None], np.arange(1, size + 1)) - np.maximum(
        edges[:-1, None], np.arange(size)
    )
    return mx.array(np.maximum(covered, 0) * (parts / size), dtype=mx.float32)
