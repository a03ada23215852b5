"""Gemma 3's eyes: SigLIP's tower over a square picture, its patches averaged to a fixed number of rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from PIL import Image

from models.checkpoint.weights import load_tensors
from models.config import ConfigError
from models.vision.interface import Features, Positions, SeenPicture
from models.vision.pixels import PixelSettings, digest, rgb
from models.vision.prompts import expanded
from models.vision.settings import processor_settings, section, special_token, token_id, under
from models.vision.siglip import SiglipConfig, SiglipTower, siglip_weights


@dataclass(frozen=True)
class Gemma3Processor(PixelSettings):
    resample: int = int(Image.Resampling.BILINEAR)
    size: Mapping[str, int] = field(default_factory=lambda: {"height": 224, "width": 224})
    do_pan_and_scan: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.do_pan_and_scan:
            raise ConfigError(f"{type(self).__name__}: do_pan_and_scan is true; only false is supported")

    def look(self, image: Image.Image, rows: int) -> SeenPicture:
        resized = self.resized(rgb(image), self.size["height"], self.size["width"])
        pixels = np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))[None]
        return SeenPicture(pixels, (1, 1), rows, digest(pixels, (1, 1)))

    def numbers(self, picture: SeenPicture) -> mx.array:
        return self.normalized(picture.pixels)


class Projector(nn.Module):
    def __init__(self, vision: SiglipConfig, rows: int, hidden: int) -> None:
        super().__init__()
        self.eps = vision.layer_norm_eps
        self.side = math.isqrt(rows)
        if self.side**2 != rows or vision.side % self.side:
            raise ConfigError(
                f"config.json: mm_tokens_per_image is {rows}; the square of a divisor of {vision.side}, the patches beside each "
                f"other, is needed"
            )
        self.mm_input_projection_weight = mx.zeros((vision.hidden_size, hidden))
        self.mm_soft_emb_norm = nn.RMSNorm(vision.hidden_size, self.eps)

    def __call__(self, x: mx.array) -> mx.array:
        """[patch, vision] to [row, hidden]."""
        size = math.isqrt(len(x)) // self.side
        averages = x.reshape(self.side, size, self.side, size, -1).mean(axis=(1, 3)).flatten(0, 1)
        normed = mx.fast.rms_norm(averages, 1.0 + self.mm_soft_emb_norm.weight, self.eps)
        return normed @ self.mm_input_projection_weight


class Gemma3VisionNetwork(nn.Module):
    def __init__(self, vision: SiglipConfig, rows: int, hidden: int) -> None:
        super().__init__()
        self.vision_tower = SiglipTower(vision)
        self.multi_modal_projector = Projector(vision, rows, hidden)

    def __call__(self, pixels: mx.array) -> mx.array:
        patches = self.vision_tower(
            pixels, mx.arange((pixels.shape[-1] // self.vision_tower.patch_size) ** 2)
        )
        return self.multi_modal_projector(patches[0])


class Gemma3Vision:
    two_way = True

    def __init__(
        self,
        network: Gemma3VisionNetwork,
        config: Mapping[str, Any],
        folder: Path,
        vision: SiglipConfig,
        dtype: mx.Dtype,
    ) -> None:
        self.network = network
        self.dtype = dtype
        self.processor = Gemma3Processor.from_dict(processor_settings(folder))
        if dict(self.processor.size) != {"height": vision.image_size, "width": vision.image_size}:
            raise ConfigError(
                f"Gemma3Processor: size is {dict(self.processor.size)}, but image_size of vision_config is {vision.image_size}"
            )
        self.rows = network.multi_modal_projector.side**2
        self.placeholder = token_id(config, "image_token_id", "image_token_index", default=262_144)
        self.marker, end, row = (
            special_token(folder, name, default)
            for name, default in (
                ("boi_token", "<start_of_image>"),
                ("eoi_token", "<end_of_image>"),
                ("image_token", "<image_soft_token>"),
            )
        )
        self.text = f"\n\n{self.marker}{row * self.rows}{end}\n\n"
        # The text network multiplies all that it reads by this.
        hidden = network.multi_modal_projector.mm_input_projection_weight.shape[1]
        self.scale = mx.array(hidden**0.5).astype(dtype).astype(mx.float32)

    def look(self, image: Image.Image) -> SeenPicture:
        return self.processor.look(image, self.rows)

    def expand(self, prompt: str, pictures: Sequence[SeenPicture]) -> str:
        return expanded(prompt, self.marker, [self.text] * len(pictures))

    def features(self, picture: SeenPicture) -> Features:
        rows = self.network(self.processor.numbers(picture).astype(self.dtype))
        return Features((rows.astype(mx.float32) / self.scale).astype(self.dtype))

    def positions(self, tokens: Sequence[int], pictures: Sequence[SeenPicture]) -> Positions | None:
        return None


def load(
    config: Mapping[str, Any], folder: Path, weights: Mapping[str, mx.array], dtype: mx.Dtype
) -> Gemma3Vision:
    vision = SiglipConfig.from_dict(section(config, "vision_config"))
    text = section(config, "text_config")
    rows = token_id(config, "mm_tokens_per_image", default=256)
    network = Gemma3VisionNetwork(vision, rows, token_id(text, "hidden_size", default=2304))
    tower = siglip_weights(under(weights, "model.vision_tower.", "vision_tower."), vision.num_channels)
    projector = under(weights, "model.multi_modal_projector.", "multi_modal_projector.")
    tensors = {f"vision_tower.{name}": value for name, value in tower.items()}
    tensors |= {f"multi_modal_projector.{name}": value for name, value in projector.items()}
    load_tensors(network, tensors, dtype=dtype)
    return Gemma3Vision(network, config, folder, vision, dtype)
