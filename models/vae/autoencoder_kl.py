"""AutoencoderKL and AutoencoderKLFlux2: pictures to latents and back.

    vae = AutoencoderKL(AutoencoderKLConfig.from_file(path))
    load_component(vae, model.shards("vae"), WEIGHTS)
    latents = vae.encode(picture)            # [n, height, width, 3] from -1 to 1
    picture = vae.decode(latents, 2**30)     # in strips that hold about so many bytes; the result is the same

Latents are as the transformer knows them: scaled and shifted, or for FLUX.2 in 2 x 2 patches normalised by the
statistics in the checkpoint. Everything is channels-last.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import mlx.core as mx
import mlx.nn as nn

from models.checkpoint.weights import WeightMap
from models.layers.patchify import patchify, unpatchify
from models.vae.autoencoder import Autoencoder
from models.vae.blocks import Attention, Downsample, MidBlock, ResnetBlock, Upsample, finish
from models.vae.config import AutoencoderConfig, AutoencoderKLConfig, AutoencoderKLFlux2Config
from models.vae.group_norm import GroupNorm
from models.vae.tiling import Lazy, Materialized, TiledImage, halo, materialize

WEIGHTS = WeightMap(
    drop=("bn.num_batches_tracked",),
    # The names of attention in older checkpoints.
    rename=(("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")),
)


def norms(config: AutoencoderConfig) -> Callable[[int], GroupNorm]:
    return partial(GroupNorm, config.norm_num_groups)


def mid_block(channels: int, config: AutoencoderConfig) -> MidBlock:
    attention = Attention(channels, config.norm_num_groups) if config.mid_block_add_attention else None
    return MidBlock(channels, norms(config), attention)


class DownBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, config: AutoencoderConfig, last: bool) -> None:
        super().__init__()
        sizes = [inputs, *[outputs] * config.layers_per_block]
        self.resnets = [ResnetBlock(a, b, norms(config)) for a, b in pairwise(sizes)]
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
        self.resnets = [ResnetBlock(a, b, norms(config)) for a, b in pairwise(sizes)]
        if not last:
            self.upsamplers = [Upsample(outputs, outputs)]

    def __call__(self, x: TiledImage, recompute: bool) -> TiledImage:
        for resnet in self.resnets:
            x = resnet(x, recompute)
        return self.upsamplers[0](x) if "upsamplers" in self else x


class Encoder(nn.Module):
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        sizes = config.block_out_channels
        self.conv_in = nn.Conv2d(config.in_channels, sizes[0], 3, padding=1)
        self.down_blocks = [
            DownBlock(a, b, config, last=i == len(sizes) - 1)
            for i, (a, b) in enumerate(pairwise((sizes[0], *sizes)))
        ]
        self.mid_block = mid_block(sizes[-1], config)
        self.conv_norm_out = norms(config)(sizes[-1])
        self.conv_out = nn.Conv2d(sizes[-1], 2 * config.latent_channels, 3, padding=1)

    def __call__(self, picture: Materialized, recompute: bool = False) -> Materialized:
        x: TiledImage = Lazy(lambda w: w.convolve(self.conv_in.weight, self.conv_in.bias), (picture, halo(1)))
        for i, block in enumerate(self.down_blocks):
            # Only the first block has the picture's size, which makes its memory worth the recomputing.
            x = block(x, recompute and i == 0)
        return finish(self.mid_block(x), self.conv_norm_out, self.conv_out)


class Decoder(nn.Module):
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        sizes = config.decoder_channels[::-1]
        self.conv_in = nn.Conv2d(config.latent_channels, sizes[0], 3, padding=1)
        self.mid_block = mid_block(sizes[0], config)
        self.up_blocks = [
            UpBlock(a, b, config, last=i == len(sizes) - 1)
            for i, (a, b) in enumerate(pairwise((sizes[0], *sizes)))
        ]
        self.conv_norm_out = norms(config)(sizes[-1])
        self.conv_out = nn.Conv2d(sizes[-1], config.out_channels, 3, padding=1)

    def __call__(self, latents: Materialized, recompute: bool = False) -> Materialized:
        x: TiledImage = self.mid_block(
            Lazy(lambda w: w.convolve(self.conv_in.weight, self.conv_in.bias), (latents, halo(1)))
        )
        for i, block in enumerate(self.up_blocks):
            x = block(x, recompute and i == len(self.up_blocks) - 1)
        return finish(materialize(x), self.conv_norm_out, self.conv_out)


class AutoencoderKL(Autoencoder):
    """FLUX.1 and Z-Image. Latents are [n, height / scale, width / scale, latent channels]."""

    config: AutoencoderKLConfig

    def __init__(self, config: AutoencoderKLConfig) -> None:
        super().__init__(config, Encoder(config), Decoder(config))

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
        super().__init__(config, Encoder(config), Decoder(config))
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
