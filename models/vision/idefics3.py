"""Idefics 3 and SmolVLM: SigLIP's tower over tiles, of whose patches neighbours are joined and projected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.checkpoint.weights import load_tensors
from models.config import ConfigError
from models.vision.idefics3_processor import Idefics3Processor
from models.vision.interface import Features, Positions, SeenPicture
from models.vision.prompts import expanded
from models.vision.settings import (
    processor_settings,
    prompt_settings,
    section,
    special_token,
    token_id,
    under,
)
from models.vision.siglip import SiglipConfig, SiglipTower, siglip_weights


@dataclass(frozen=True)
class Idefics3VisionConfig(SiglipConfig):
    hidden_size: int = 1152
    num_attention_heads: int = 16
    patch_size: int = 32


class Projection(nn.Module):
    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, hidden, bias=False)


class Connector(nn.Module):
    def __init__(self, vision: SiglipConfig, factor: int, hidden: int) -> None:
        super().__init__()
        self.factor = factor
        self.modality_projection = Projection(vision.hidden_size * factor**2, hidden)

    def __call__(self, x: mx.array, side: int) -> mx.array:
        """[tile, patch, vision] to [row, hidden]; `side`: patches beside each other in a tile."""
        factor, rows = self.factor, side // self.factor
        squares = x.reshape(len(x), rows, factor, rows, factor, -1).transpose(0, 1, 3, 2, 4, 5)
        return self.modality_projection.proj(squares.reshape(len(x) * rows**2, -1))


class Idefics3VisionNetwork(nn.Module):
    def __init__(self, vision: SiglipConfig, factor: int, hidden: int) -> None:
        super().__init__()
        self.config = vision
        self.vision_model = SiglipTower(vision)
        self.connector = Connector(vision, factor, hidden)

    def __call__(self, pixels: mx.array) -> mx.array:
        side = pixels.shape[-1] // self.config.patch_size
        positions = mx.array(learned_positions(side, self.config.side))
        return self.connector(self.vision_model(pixels, positions), side)


def learned_positions(side: int, learned: int) -> NDArray[np.int64]:
    """Which of the `learned` x `learned` positions each patch of a square takes. In float32, as the reference."""
    begins = (np.arange(1, learned) * (1 / learned)).astype(np.float32)
    places = np.arange(side, dtype=np.float32) * np.float32(np.float32(1) / np.float32(side))
    near = np.searchsorted(begins, np.minimum(places, np.float32(1 - 1e-6)), side="right")
    return (near[:, None] * learned + near).flatten()


class Idefics3Vision:
    two_way = False

    def __init__(
        self, network: Idefics3VisionNetwork, config: Mapping[str, Any], folder: Path, dtype: mx.Dtype
    ) -> None:
        self.network = network
        self.dtype = dtype
        self.processor = Idefics3Processor.from_dict(processor_settings(folder))
        self.rows = self._rows_of_a_tile(prompt_settings(folder))
        self.placeholder = token_id(config, "image_token_id", default=128_257)
        self.marker = special_token(folder, "image_token", "<image>")
        self.fake = special_token(folder, "fake_image_token", "<fake_token_around_image>")
        self.whole = special_token(folder, "global_image_token", "<global-img>")

    def _rows_of_a_tile(self, prompts: Mapping[str, Any]) -> int:
        factor = self.network.connector.factor
        # Pixels of a tile beyond its last whole patch are not seen.
        patches = self.processor.side // self.network.config.patch_size
        if not patches or patches % factor:
            raise ConfigError(
                f"Idefics3Processor: longest_edge of max_image_size is {self.processor.side}, {patches} patches of "
                f"{self.network.config.patch_size}; a multiple of scale_factor, {factor}, is needed"
            )
        rows = (patches // factor) ** 2
        if prompts.get("image_seq_len", rows) != rows:
            raise ConfigError(
                f"processor_config.json: image_seq_len is {prompts['image_seq_len']!r}, but a tile becomes {rows} rows"
            )
        return rows

    def look(self, image: Image.Image) -> SeenPicture:
        return self.processor.look(image, self.rows)

    def expand(self, prompt: str, pictures: Sequence[SeenPicture]) -> str:
        return expanded(prompt, self.marker, [self._text(*picture.grid) for picture in pictures])

    def _text(self, rows: int, columns: int) -> str:
        tile = self.marker * self.rows
        lines = [
            "".join(f"{self.fake}<row_{row}_col_{column}>{tile}" for column in range(1, columns + 1)) + "\n"
            for row in range(1, rows + 1)
        ]
        return "".join(lines) + ("\n" if lines else "") + f"{self.fake}{self.whole}{tile}{self.fake}"

    def features(self, picture: SeenPicture) -> Features:
        return Features(self.network(self.processor.numbers(picture).astype(self.dtype)))

    def positions(self, tokens: Sequence[int], pictures: Sequence[SeenPicture]) -> Positions | None:
        return None


def load(
    config: Mapping[str, Any], folder: Path, weights: Mapping[str, mx.array], dtype: mx.Dtype
) -> Idefics3Vision:
    vision = Idefics3VisionConfig.from_dict(section(config, "vision_config"))
    factor = token_id(config, "scale_factor", default=2)
    if factor < 1:
        raise ConfigError(f"config.json: scale_factor is {factor}; a whole number above 0 is needed")
    network = Idefics3VisionNetwork(vision, factor, token_id(section(config, "text_config"), "hidden_size"))
    tower = siglip_weights(under(weights, "model.vision_model.", "vision_model."), vision.num_channels)
    tensors = {f"vision_model.{name}": value for name, value in tower.items()}
    connector = under(weights, "model.connector.", "connector.")
    tensors |= {f"connector.{name}": value for name, value in connector.items()}
    load_tensors(network, tensors, dtype=dtype)
    return Idefics3Vision(network, config, folder, dtype)
