"""A ControlNet of FLUX.1 (FluxControlNetModel): the first blocks of a FLUX.1 transformer that also see a picture, encoded as the
drawn one is; what comes out of each is added behind the transformer's own.

    prepared = network.prepare_mode(text, text_positions, picture_positions, mode)
    modulation = network.modulation(timesteps, pooled, guidance)
    residuals = network.step(latents, picture, prepared, modulation.at(i), scale)

Union networks know several kinds of pictures (edges, depths, poses, …), and are told which by a number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from models.config import ConfigError
from models.layers.rope import Positions
from models.transformers.flux import FluxConfig, FluxStream, Modulation, Prepared, Residuals


@dataclass(frozen=True)
class FluxControlNetConfig(FluxConfig):
    num_mode: int | None = None  # of a union
    conditioning_embedding_channels: int | None = None

    def __post_init__(self) -> None:
        if self.conditioning_embedding_channels is not None:
            raise ConfigError(
                "FluxControlNetConfig: conditioning_embedding_channels is set; networks that read pixels (XLabs) are not "
                "supported, only those that read encoded pictures"
            )
        if not self.num_layers and not self.num_single_layers:
            raise ConfigError("FluxControlNetConfig: num_layers and num_single_layers are both 0")


class FluxControlNet(FluxStream):
    def __init__(self, config: FluxControlNetConfig) -> None:
        super().__init__(config)
        width = config.width
        self.controlnet_x_embedder = nn.Linear(config.in_channels, width)
        self.controlnet_blocks = [nn.Linear(width, width) for _ in range(config.num_layers)]
        self.controlnet_single_blocks = [nn.Linear(width, width) for _ in range(config.num_single_layers)]
        self.modes = config.num_mode
        if config.num_mode is not None:
            self.controlnet_mode_embedder = nn.Embedding(config.num_mode, width)

    def prepare_mode(
        self, text: mx.array, text_positions: Positions, picture_positions: Positions, mode: int | None
    ) -> Prepared:
        """As the transformer's; the mode of a union is a token before the text."""
        if self.modes is None:
            return self.prepare(text, text_positions, picture_positions)
        positions = np.concatenate([text_positions[:1], text_positions])
        prepared = self.prepare(text, positions, picture_positions)
        token = self.controlnet_mode_embedder(mx.array([[mode]])).astype(self.dtype)
        tokens = mx.broadcast_to(token, (len(text), *token.shape[1:]))
        return prepared._replace(text=mx.concatenate([tokens, prepared.text], axis=1))

    def modulation(
        self, timesteps: Sequence[float], pooled: mx.array, guidance: float | None = None
    ) -> Modulation:
        return self.conditioning(timesteps, pooled, guidance)[1]

    def step(
        self,
        latents: mx.array,
        picture: mx.array,
        prepared: Prepared,
        modulation: Modulation,
        scale: mx.array,
    ) -> Residuals:
        """`picture`: the encoded control picture, as many tokens as there are latents."""
        text, _, table = prepared
        image = self.x_embedder(latents.astype(text.dtype))
        image = image + self.controlnet_x_embedder(picture.astype(text.dtype))
        double, single = [], []
        rows = zip(self.transformer_blocks, modulation.text, modulation.image, strict=True)
        for block, text_rows, image_rows in rows:
            text, image = block(text, image, table, text_rows, image_rows)
            double.append(image)
        stream = mx.concatenate([text, image], axis=1)
        for one, single_rows in zip(self.single_transformer_blocks, modulation.single, strict=True):
            stream = one(stream, table, single_rows)
            single.append(stream[:, text.shape[1] :])
        scale = scale.astype(text.dtype)
        return Residuals(
            tuple(layer(x) * scale for layer, x in zip(self.controlnet_blocks, double, strict=True)),
            tuple(layer(x) * scale for layer, x in zip(self.controlnet_single_blocks, single, strict=True)),
        )
