"""The decoder of a tiny autoencoder (AutoencoderTiny; TAEF1 for FLUX.1 and Z-Image): latents to pictures in a fraction of the
time and memory, and a little less fine.

    decoder = TinyDecoder(TinyDecoderConfig.from_file(path))
    load_component(decoder, model.shards(""), WEIGHTS)
    picture = decoder.decode(latents)  # as the transformer knows them
"""

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from models.checkpoint.weights import WeightMap
from models.config import Config, ConfigError
from models.vae.autoencoder import averages

WEIGHTS = WeightMap(drop=("encoder.*",))
CLAMP = 3.0  # latents beyond it are pressed together


@dataclass(frozen=True)
class TinyDecoderConfig(Config):
    latent_channels: int = 4
    out_channels: int = 3
    decoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    num_decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)
    act_fn: str = "relu"
    upsample_fn: str = "nearest"
    upsampling_scaling_factor: int = 2
    scaling_factor: float = 1.0
    shift_factor: float = 0.0

    def __post_init__(self) -> None:
        for key, value, supported in (
            ("act_fn", self.act_fn, "relu"),
            ("upsample_fn", self.upsample_fn, "nearest"),
            ("out_channels", self.out_channels, 3),
        ):
            if value != supported:
                raise ConfigError(f"the tiny autoencoder's {key} is {value!r}; {supported!r} is supported")
        channels = self.decoder_block_out_channels
        if not channels or len(channels) != len(self.num_decoder_blocks) or len(set(channels)) > 1:
            raise ConfigError(
                f"the tiny autoencoder's decoder_block_out_channels are {list(channels)}; one number for each of "
                f"num_decoder_blocks, {list(self.num_decoder_blocks)}, and all the same are supported"
            )
        if not self.scaling_factor:
            raise ConfigError("the tiny autoencoder's scaling_factor is 0")

    @property
    def scale(self) -> int:
        """Pixels along one side of a latent."""
        return int(self.upsampling_scaling_factor ** (len(self.num_decoder_blocks) - 1))


class Block(nn.Module):
    """Three convolutions around which the input is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(3)]
        # The checkpoint counts the activations too.
        self.conv = [convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), convolutions[2]]

    def __call__(self, x: mx.array) -> mx.array:
        out = x
        for layer in self.conv:
            out = layer(out)
        return nn.relu(out + x)


class Layers(nn.Module):
    def __init__(self, config: TinyDecoderConfig) -> None:
        super().__init__()
        width = config.decoder_block_out_channels[0]
        layers: list[nn.Module] = [nn.Conv2d(config.latent_channels, width, 3, padding=1), nn.ReLU()]
        last = len(config.num_decoder_blocks) - 1
        for index, blocks in enumerate(config.num_decoder_blocks):
            layers += [Block(width) for _ in range(blocks)]
            if index < last:
                layers.append(nn.Upsample(float(config.upsampling_scaling_factor), mode="nearest"))
            outputs = width if index < last else config.out_channels
            layers.append(nn.Conv2d(width, outputs, 3, padding=1, bias=index == last))
        self.layers = layers

    def __call__(self, x: mx.array) -> mx.array:
        for layer in self.layers:
            x = layer(x)
        return x


class TinyDecoder(nn.Module):
    def __init__(self, config: TinyDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = Layers(config)

    def decode(self, latents: mx.array) -> mx.array:
        """Pictures [n, height, width, 3], mostly between -1 and 1, from latents [n, height / scale, width / scale, channels];
        unevaluated."""
        latents = latents.astype(self.decoder.layers[0].weight.dtype)
        latents = latents / self.config.scaling_factor + self.config.shift_factor
        return self.decoder(mx.tanh(latents / CLAMP) * CLAMP) * 2 - 1

    def preview(self, latents: mx.array, longest: int) -> mx.array:
        """The picture, averaged until it is no longer than `longest` pixels."""
        picture = self.decode(latents)
        height, width = picture.shape[1:3]
        ratio = min(1.0, longest / max(height, width))
        down = averages(height, max(1, int(height * ratio)))
        along = averages(width, max(1, int(width * ratio)))
        return mx.einsum("yh,nhwc,xw->nyxc", down, picture.astype(mx.float32), along)
