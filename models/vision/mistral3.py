"""Mistral 3's eyes: Pixtral's tower over a picture of any shape, of whose patches neighbours are merged and projected."""

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
from models.config import Config, ConfigError
from models.layers.attention import softmax_attention
from models.layers.basic import activation
from models.vision.interface import Features, Positions, SeenPicture
from models.vision.pixels import CLIP_MEAN, CLIP_STD, PixelSettings, digest, positive, rgb
from models.vision.prompts import expanded
from models.vision.qwen_layers import Rotation, check_heads, rotate
from models.vision.settings import flat_kernel, processor_settings, prompt_settings, section, token_id, under
from models.vision.siglip import patches

EPS = 1e-5  # of the tower's norms; not in any configuration
IMAGE, BREAK, END = "[IMG]", "[IMG_BREAK]", "[IMG_END]"


@dataclass(frozen=True)
class PixtralConfig(Config):
    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    num_channels: int = 3
    patch_size: int = 14
    hidden_act: str = "gelu"
    rope_theta: float | None = None
    rope_parameters: Mapping[str, Any] | None = field(default=None)

    def __post_init__(self) -> None:
        positive(
            "vision_config",
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            patch_size=self.patch_size,
        )
        check_heads("vision_config", self.hidden_size, self.num_attention_heads, "num_attention_heads")

    @property
    def theta(self) -> float:
        return float((self.rope_parameters or {}).get("rope_theta", self.rope_theta or 10_000.0))


@dataclass(frozen=True)
class PixtralProcessor(PixelSettings):
    image_mean: tuple[float, ...] = CLIP_MEAN
    image_std: tuple[float, ...] = CLIP_STD
    size: Mapping[str, int] = field(default_factory=lambda: {"longest_edge": 1024})

    def __post_init__(self) -> None:
        super().__post_init__()
        if "longest_edge" not in self.size:
            raise ConfigError(f"PixtralProcessor: size is {dict(self.size)}; longest_edge is needed")
        positive("PixtralProcessor: size", longest_edge=self.size["longest_edge"])

    def look(self, image: Image.Image, unit: int) -> SeenPicture:
        """`unit`: pixels of a row's side."""
        ratio = max(image.height, image.width) / self.size["longest_edge"]
        sides = (image.height, image.width)
        if ratio > 1:
            sides = (math.floor(image.height / ratio), math.floor(image.width / ratio))
        rows, columns = (max(-(-side // unit), 1) for side in sides)
        resized = self.resized(rgb(image), rows * unit, columns * unit)
        pixels = np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))[None]
        return SeenPicture(pixels, (rows, columns), rows * columns, digest(pixels, (rows, columns)))

    def numbers(self, picture: SeenPicture) -> mx.array:
        return self.normalized(picture.pixels)


class Attention(nn.Module):
    def __init__(self, config: PixtralConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(size, size, bias=False) for _ in range(4)
        )

    def __call__(self, x: mx.array, turns: Rotation) -> mx.array:
        q, k, v = (
            layer(x).reshape(len(x), self.heads, -1).swapaxes(0, 1)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, turns), rotate(k, turns)
        attended = softmax_attention(q[None], k[None], v[None], q.shape[-1] ** -0.5)[0]
        return self.o_proj(attended.swapaxes(0, 1).flatten(1))


class MLP(nn.Module):
    def __init__(self, config: PixtralConfig) -> None:
        super().__init__()
        self.act = activation(config.hidden_act)
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config: PixtralConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.hidden_size, EPS)
        self.ffn_norm = nn.RMSNorm(config.hidden_size, EPS)
        self.attention = Attention(config)
        self.feed_forward = MLP(config)

    def __call__(self, x: mx.array, turns: Rotation) -> mx.array:
        x = x + self.attention(self.attention_norm(x), turns)
        return x + self.feed_forward(self.ffn_norm(x))


class Transformer(nn.Module):
    def __init__(self, config: PixtralConfig) -> None:
        super().__init__()
        self.layers = [Layer(config) for _ in range(config.num_hidden_layers)]


class PixtralTower(nn.Module):
    def __init__(self, config: PixtralConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_conv = nn.Linear(
            config.num_channels * config.patch_size**2, config.hidden_size, bias=False
        )
        self.ln_pre = nn.RMSNorm(config.hidden_size, EPS)
        self.transformer = Transformer(config)

    def __call__(self, pixels: mx.array) -> mx.array:
        """`pixels` [1, channel, row, column]; [patch, hidden_size], row by row."""
        size = self.config.patch_size
        places = np.indices((pixels.shape[2] // size, pixels.shape[3] // size)).reshape(2, -1)
        turns = self._rotation(places)
        x = self.ln_pre(self.patch_conv(patches(pixels, size)[0]))
        for layer in self.transformer.layers:
            x = layer(x, turns)
        return x

    def _rotation(self, places: np.ndarray[Any, np.dtype[np.int64]]) -> Rotation:
        """Of the frequencies, every other one turns with the row, and those between with the column."""
        dims = self.config.hidden_size // self.config.num_attention_heads
        inverse = self.config.theta ** -(np.arange(0, dims, 2, dtype=np.float64) / dims)
        angles = np.concatenate(
            [places[0][:, None] * inverse[0::2], places[1][:, None] * inverse[1::2]], axis=-1
        )
        return mx.array(np.cos(angles).astype(np.float32)), mx.array(np.sin(angles).astype(np.float32))


class PatchMerger(nn.Module):
    def __init__(self, size: int, merge: int) -> None:
        super().__init__()
        self.merge = merge
        self.merging_layer = nn.Linear(size * merge**2, size, bias=False)

    def __call__(self, x: mx.array, grid: tuple[int, ...]) -> mx.array:
        """`grid`: rows and columns after merging."""
        rows, columns = grid
        squares = x.reshape(rows, self.merge, columns, self.merge, -1).transpose(0, 2, 4, 1, 3)
        return self.merging_layer(squares.reshape(rows * columns, -1))


class Projector(nn.Module):
    def __init__(self, vision: PixtralConfig, config: Mapping[str, Any]) -> None:
        super().__init__()
        text = section(config, "text_config")
        hidden, bias = (
            token_id(text, "hidden_size", default=5120),
            bool(config.get("multimodal_projector_bias", False)),
        )
        self.act = activation(config.get("projector_hidden_act", "gelu"))
        self.norm = nn.RMSNorm(vision.hidden_size, float(text.get("rms_norm_eps", 1e-5)))
        self.patch_merger = PatchMerger(vision.hidden_size, token_id(config, "spatial_merge_size", default=2))
        self.linear_1 = nn.Linear(vision.hidden_size, hidden, bias=bias)
        self.linear_2 = nn.Linear(hidden, hidden, bias=bias)

    def __call__(self, x: mx.array, grid: tuple[int, ...]) -> mx.array:
        return self.linear_2(self.act(self.linear_1(self.patch_merger(self.norm(x), grid))))


class Mistral3VisionNetwork(nn.Module):
    def __init__(self, vision: PixtralConfig, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.vision_tower = PixtralTower(vision)
        self.multi_modal_projector = Projector(vision, config)

    def __call__(self, pixels: mx.array, grid: tuple[int, ...]) -> mx.array:
        return self.multi_modal_projector(self.vision_tower(pixels), grid)


class Mistral3Vision:
    two_way = False
    marker = IMAGE

    def __init__(
        self, network: Mistral3VisionNetwork, config: Mapping[str, Any], folder: Path, dtype: mx.Dtype
    ) -> None:
        self.network = network
        self.dtype = dtype
        self.processor = PixtralProcessor.from_dict(processor_settings(folder))
        merge = network.multi_modal_projector.patch_merger.merge
        if prompt_settings(folder).get("spatial_merge_size", merge) != merge:
            raise ConfigError(
                f"processor_config.json: spatial_merge_size is not {merge}, that of config.json"
            )
        self.unit = network.vision_tower.config.patch_size * merge
        self.placeholder = token_id(config, "image_token_id", "image_token_index", default=10)

    def look(self, image: Image.Image) -> SeenPicture:
        return self.processor.look(image, self.unit)

    def expand(self, prompt: str, pictures: Sequence[SeenPicture]) -> str:
        return expanded(prompt, IMAGE, [self._text(*picture.grid) for picture in pictures])

    def _text(self, rows: int, columns: int) -> str:
        return BREAK.join([IMAGE * columns] * rows) + END

    def features(self, picture: SeenPicture) -> Features:
        return Features(self.network(self.processor.numbers(picture).astype(self.dtype), picture.grid))

    def positions(self, tokens: Sequence[int], pictures: Sequence[SeenPicture]) -> Positions | None:
        return None


def load(
    config: Mapping[str, Any], folder: Path, weights: Mapping[str, mx.array], dtype: mx.Dtype
) -> Mistral3Vision:
    vision = PixtralConfig.from_dict(section(config, "vision_config"))
    layer = config.get("vision_feature_layer", -1)
    if layer != -1:
        raise ConfigError(f"config.json: vision_feature_layer is {layer!r}; only -1, the last, is supported")
    positive("config.json", spatial_merge_size=token_id(config, "spatial_merge_size", default=2))
    network = Mistral3VisionNetwork(vision, config)
    tower = flat_kernel(
        under(weights, "model.vision_tower.", "vision_tower."), "patch_conv", vision.num_channels
    )
    projector = under(weights, "model.multi_modal_projector.", "multi_modal_projector.")
    tensors = {f"vision_tower.{name}": value for name, value in tower.items()}
    tensors |= {f"multi_modal_projector.{name}": value for name, value in projector.items()}
    load_tensors(network, tensors, dtype=dtype)
    return Mistral3Vision(network, config, folder, dtype)
