"""The tower of Qwen3-VL: all blocks see the whole picture, and what some of them have seen is added to the text network's first
layers (DeepStack)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from models.checkpoint.weights import load_tensors
from models.config import Config, ConfigError
from models.layers.basic import activation
from models.vision.interface import Features, SeenPicture
from models.vision.pixels import positive
from models.vision.qwen import FUSED, QwenVision, tower_weights
from models.vision.qwen_layers import (
    Attention,
    Grid,
    Ints,
    Rotation,
    by_squares,
    check_heads,
    rotation,
)
from models.vision.settings import processor_settings, section

EPS = 1e-6  # of all norms; not in any configuration


@dataclass(frozen=True)
class Qwen3VisionConfig(Config):
    depth: int = 27
    hidden_size: int = 1152
    hidden_act: str = "gelu_pytorch_tanh"
    intermediate_size: int = 4304
    num_heads: int = 16
    in_channels: int = 3
    patch_size: int = 16
    spatial_merge_size: int = 2
    temporal_patch_size: int = 2
    out_hidden_size: int = 3584
    num_position_embeddings: int = 2304
    deepstack_visual_indexes: tuple[int, ...] = (8, 16, 24)
    rope_parameters: Mapping[str, Any] | None = field(default=None)

    def __post_init__(self) -> None:
        where = "vision_config"
        positive(
            where,
            depth=self.depth,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_heads=self.num_heads,
            patch_size=self.patch_size,
            spatial_merge_size=self.spatial_merge_size,
            temporal_patch_size=self.temporal_patch_size,
            out_hidden_size=self.out_hidden_size,
            num_position_embeddings=self.num_position_embeddings,
        )
        check_heads(where, self.hidden_size, self.num_heads)
        if self.side**2 != self.num_position_embeddings:
            raise ConfigError(
                f"{where}: num_position_embeddings is {self.num_position_embeddings}; the square of a whole number is needed"
            )
        if any(not 0 <= index < self.depth for index in self.deepstack_visual_indexes):
            raise ConfigError(
                f"{where}: deepstack_visual_indexes is {list(self.deepstack_visual_indexes)}; indices of the {self.depth} blocks "
                f"are needed"
            )

    @property
    def side(self) -> int:
        """Learned positions beside each other."""
        return math.isqrt(self.num_position_embeddings)

    @property
    def theta(self) -> float:
        return float((self.rope_parameters or {}).get("rope_theta", 10_000.0))


class MLP(nn.Module):
    def __init__(self, config: Qwen3VisionConfig) -> None:
        super().__init__()
        self.act = activation(config.hidden_act)
        self.linear_fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.linear_fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def __call__(self, x: mx.array) -> mx.array:
        return self.linear_fc2(self.act(self.linear_fc1(x)))


class Block(nn.Module):
    def __init__(self, config: Qwen3VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, EPS)
        self.norm2 = nn.LayerNorm(config.hidden_size, EPS)
        self.attn = Attention(config.hidden_size, config.num_heads)
        self.mlp = MLP(config)

    def __call__(self, x: mx.array, turns: Rotation) -> mx.array:
        x = x + self.attn(self.norm1(x), turns)
        return x + self.mlp(self.norm2(x))


class Merger(nn.Module):
    def __init__(self, config: Qwen3VisionConfig, norms_merged: bool) -> None:
        super().__init__()
        self.size = config.hidden_size * config.spatial_merge_size**2
        self.norms_merged = norms_merged
        self.norm = nn.LayerNorm(self.size if norms_merged else config.hidden_size, EPS)
        self.linear_fc1 = nn.Linear(self.size, self.size)
        self.linear_fc2 = nn.Linear(self.size, config.out_hidden_size)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.norm(x.reshape(-1, self.size)) if self.norms_merged else self.norm(x).reshape(-1, self.size)
        return self.linear_fc2(nn.gelu(self.linear_fc1(x)))


class PatchEmbed(nn.Module):
    def __init__(self, config: Qwen3VisionConfig) -> None:
        super().__init__()
        values = config.in_channels * config.temporal_patch_size * config.patch_size**2
        self.proj = nn.Linear(values, config.hidden_size)


class Qwen3VisionTower(nn.Module):
    def __init__(self, config: Qwen3VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.pos_embed = nn.Embedding(config.num_position_embeddings, config.hidden_size)
        self.blocks = [Block(config) for _ in range(config.depth)]
        self.merger = Merger(config, norms_merged=False)
        self.deepstack_merger_list = [
            Merger(config, norms_merged=True) for _ in config.deepstack_visual_indexes
        ]

    def __call__(self, patches: mx.array, grid: Grid) -> Features:
        """Patches as the processor lays them out, of one picture; its rows [token, out_hidden_size]."""
        config = self.config
        places = by_squares(grid[1], grid[2], config.spatial_merge_size)
        turns = rotation(places, config.hidden_size // config.num_heads, config.theta)
        x = self.patch_embed.proj(patches)
        x = x + self._positions(places, grid).astype(x.dtype)
        deepstack: dict[int, mx.array] = {}
        for index, block in enumerate(self.blocks):
            x = block(x, turns)
            if index in config.deepstack_visual_indexes:
                number = config.deepstack_visual_indexes.index(index)
                deepstack[number] = self.deepstack_merger_list[number](x)
        # In the order of the blocks, whatever that of the configuration.
        return Features(self.merger(x), tuple(deepstack.values()))

    def _positions(self, places: Ints, grid: Grid) -> mx.array:
        """Learned positions [patch, hidden_size], interpolated from their square to the picture's grid."""
        near, weights = zip(
            *(neighbours(places[:, axis], grid[axis + 1], self.config.side) for axis in (0, 1)), strict=True
        )
        indices = near[0][:, :, None] * self.config.side + near[1][:, None, :]
        products = weights[0][:, :, None] * weights[1][:, None, :]
        table = self.pos_embed(mx.array(indices.reshape(-1, 4)))
        return (table * mx.array(products.reshape(-1, 4))[..., None]).sum(axis=1)


def neighbours(places: Ints, size: int, side: int) -> tuple[Ints, np.ndarray[Any, np.dtype[np.float32]]]:
    """Of places along an axis of `size`, the two nearest of `side` learned positions and their weights, [place, 2]."""
    at = places.astype(np.float32) * np.float32(side - 1) / np.float32(max(size - 1, 1))
    below = np.floor(at)
    near = np.clip(below.astype(np.int64)[:, None] + np.arange(2), 0, side - 1)
    return near, np.stack([1 - (at - below), at - below], -1).astype(np.float32)


def load_tower(
    config: Qwen3VisionConfig, weights: Mapping[str, mx.array], dtype: mx.Dtype
) -> Qwen3VisionTower:
    """`weights`: all tensors of a checkpoint, or those of the tower alone."""
    tower = Qwen3VisionTower(config)
    load_tensors(tower, tower_weights(weights, config.in_channels), FUSED, dtype)
    return tower


class Qwen3Vision(QwenVision):
    network: Qwen3VisionTower

    def features(self, picture: SeenPicture) -> Features:
        return self.network(self.processor.numbers(picture).astype(self.dtype), picture.grid)


def load(
    config: Mapping[str, Any], folder: Path, weights: Mapping[str, mx.array], dtype: mx.Dtype
) -> Qwen3Vision:
    vision = Qwen3VisionConfig.from_dict(section(config, "vision_config"))
    tower = load_tower(vision, weights, dtype)
    return Qwen3Vision(tower, config, processor_settings(folder), vision, dtype)
