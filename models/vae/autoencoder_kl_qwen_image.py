"""AutoencoderKLQwenImage: the autoencoder of Qwen-Image and Krea 2, made for films, for pictures.

Its convolutions reach back in time. A picture is a film of one frame with zeros before it: only the last slice of a kernel
meets it, so each is a convolution in the plane, and those over time alone are never run.
"""

from dataclasses import dataclass
from itertools import pairwise

import mlx.core as mx
import mlx.nn as nn

from models.checkpoint.weights import WeightMap
from models.config import Config, ConfigError
from models.vae.autoencoder import Autoencoder
from models.vae.blocks import Downsample, MidBlock, ResnetBlock, Upsample, attend_pixels, finish
from models.vae.pixel_norm import PixelNorm
from models.vae.strips import Strips
from models.vae.tiling import Lazy, Materialized, TiledImage, halo, materialize

WEIGHTS = WeightMap(drop=("*.time_conv.*",), rename=(("resample.1", "conv"),), last_frame=True)


@dataclass(frozen=True)
class AutoencoderKLQwenImageConfig(Config):
    base_dim: int = 96
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attn_scales: tuple[float, ...] = ()
    temperal_downsample: tuple[bool, ...] = (False, True, True)
    input_channels: int = 3
    latents_mean: tuple[float, ...] = (
        -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
        0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
    )  # fmt: skip
    latents_std: tuple[float, ...] = (
        2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
        3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
    )  # fmt: skip
    use_quant_conv = use_post_quant_conv = True

    def __post_init__(self) -> None:
        where = type(self).__name__
        if self.attn_scales:
            raise ConfigError(f"{where}: attn_scales is {list(self.attn_scales)}; only [] is supported")
        if self.input_channels != 3:
            raise ConfigError(f"{where}: input_channels is {self.input_channels}; only 3 is supported")
        if not self.dim_mult or len(self.temperal_downsample) != len(self.dim_mult) - 1:
            raise ConfigError(
                f"{where}: temperal_downsample has {len(self.temperal_downsample)} values, and dim_mult {len(self.dim_mult)}; "
                "one less is needed"
            )
        if min(self.base_dim, self.z_dim, self.num_res_blocks, *self.dim_mult) < 1:
            raise ConfigError(f"{where}: base_dim, z_dim, num_res_blocks and dim_mult must be above 0")
        if any(channels % 2 for channels in self.channels[1:]):
            raise ConfigError(f"{where}: base_dim times dim_mult is {self.channels}; even numbers are needed")
        for name in ("latents_mean", "latents_std"):
            if len(getattr(self, name)) != self.z_dim:
                raise ConfigError(
                    f"{where}: {name} has {len(getattr(self, name))} values; z_dim, {self.z_dim}, are needed"
                )
        if 0.0 in self.latents_std:
            raise ConfigError(f"{where}: latents_std has a 0; other numbers are needed")

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each block, from the picture inwards."""
        return tuple(self.base_dim * factor for factor in self.dim_mult)

    @property
    def latent_channels(self) -> int:
        return self.z_dim

    @property
    def scale(self) -> int:
        return int(2 ** (len(self.dim_mult) - 1))

    @property
    def outermost(self) -> int:
        """Channels at the picture's own size, or half of those at half its size if that is more."""
        return max((2 * self.base_dim, 2 * self.channels[0], *self.channels[1:2])) // 2


class Attention(nn.Module):
    """A single head over all pixels, as wide as there are channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = PixelNorm(channels, axes=2)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def __call__(self, x: Materialized) -> Materialized:
        picture = x.whole()
        n, _, _, channels = picture.shape
        tokens = self.to_qkv(self.norm.fit(x)(picture)).reshape(n, 1, -1, 3 * channels)
        q, k, v = mx.split(tokens, 3, axis=-1)
        out = attend_pixels(q, k, v, x.scheduler).reshape(picture.shape)
        return Materialized([picture + self.proj(out)], x.scheduler)


def mid_block(channels: int) -> MidBlock:
    return MidBlock(channels, PixelNorm, Attention(channels))


class Encoder(nn.Module):
    def __init__(self, config: AutoencoderKLQwenImageConfig) -> None:
        super().__init__()
        sizes = config.channels
        self.conv_in = nn.Conv2d(config.input_channels, config.base_dim, 3, padding=1)
        # One after another, as in the checkpoint: each size's residual blocks, then the step to the next one.
        self.down_blocks: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(pairwise((config.base_dim, *sizes))):
            widths = (inputs, *[outputs] * config.num_res_blocks)
            self.down_blocks += [ResnetBlock(a, b, PixelNorm) for a, b in pairwise(widths)]
            if index < len(sizes) - 1:
                self.down_blocks.append(Downsample(outputs))
        self.mid_block = mid_block(sizes[-1])
        self.norm_out = PixelNorm(sizes[-1])
        self.conv_out = nn.Conv2d(sizes[-1], 2 * config.z_dim, 3, padding=1)

    def __call__(self, picture: Materialized, recompute: bool = False) -> Materialized:
        x: TiledImage = Lazy(lambda w: w.convolve(self.conv_in.weight, self.conv_in.bias), (picture, halo(1)))
        for block in self.down_blocks:
            if isinstance(block, Downsample):
                x, recompute = block(x), False
            else:
                x = block(x, recompute)
        return finish(self.mid_block(x), self.norm_out, self.conv_out)


class UpBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, config: AutoencoderKLQwenImageConfig, last: bool) -> None:
        super().__init__()
        sizes = (inputs, *[outputs] * (config.num_res_blocks + 1))
        self.resnets = [ResnetBlock(a, b, PixelNorm) for a, b in pairwise(sizes)]
        if not last:
            self.upsamplers = [Upsample(outputs, outputs // 2)]

    def __call__(self, x: TiledImage, recompute: bool) -> TiledImage:
        for resnet in self.resnets:
            x = resnet(x, recompute)
        return self.upsamplers[0](x) if "upsamplers" in self else x


class Decoder(nn.Module):
    def __init__(self, config: AutoencoderKLQwenImageConfig) -> None:
        super().__init__()
        outputs = config.channels[::-1]
        inputs = (outputs[0], *(channels // 2 for channels in outputs[:-1]))
        self.conv_in = nn.Conv2d(config.z_dim, outputs[0], 3, padding=1)
        self.mid_block = mid_block(outputs[0])
        self.up_blocks = [
            UpBlock(a, b, config, last=i == len(outputs) - 1)
            for i, (a, b) in enumerate(zip(inputs, outputs, strict=True))
        ]
        self.norm_out = PixelNorm(outputs[-1])
        self.conv_out = nn.Conv2d(outputs[-1], config.input_channels, 3, padding=1)

    def __call__(self, latents: Materialized, recompute: bool = False) -> Materialized:
        x: TiledImage = self.mid_block(
            Lazy(lambda w: w.convolve(self.conv_in.weight, self.conv_in.bias), (latents, halo(1)))
        )
        for i, block in enumerate(self.up_blocks):
            x = block(x, recompute and i == len(self.up_blocks) - 1)
        return finish(materialize(x), self.norm_out, self.conv_out)


class AutoencoderKLQwenImage(Autoencoder):
    """Latents are [n, height / scale, width / scale, z_dim]."""

    config: AutoencoderKLQwenImageConfig

    def __init__(self, config: AutoencoderKLQwenImageConfig) -> None:
        super().__init__(config, Encoder(config), Decoder(config))

    def to_transformer(self, latents: mx.array) -> mx.array:
        mean, std = self._statistics(latents.dtype)
        return (latents - mean) / std

    def from_transformer(self, latents: mx.array) -> mx.array:
        mean, std = self._statistics(latents.dtype)
        return latents * std + mean

    def _decode(self, latents: mx.array, strips: Strips | int | None) -> mx.array:
        return mx.clip(super()._decode(latents, strips), -1, 1)

    def _statistics(self, dtype: mx.Dtype) -> tuple[mx.array, mx.array]:
        return mx.array(self.config.latents_mean, dtype), mx.array(self.config.latents_std, dtype)
