"""The tower of Qwen2.5-VL: most blocks attend within windows, and four neighbouring patches become one row.

Also what Qwen-Image reads pictures with.
"""

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
class Qwen25VisionConfig(Config):
    depth: int = 32
    hidden_size: int = 3584
    hidden_act: str = "silu"
    intermediate_size: int = 3420
    num_heads: int = 16
    in_channels: int = 3
    patch_size: int = 14
    spatial_merge_size: int = 2
    temporal_patch_size: int = 2
    window_size: int = 112
    out_hidden_size: int = 3584
    fullatt_block_indexes: tuple[int, ...] = (7, 15, 23, 31)
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
        )
        check_heads(where, self.hidden_size, self.num_heads)
        if self.window < 1:
            raise ConfigError(
                f"{where}: window_size is {self.window_size}; at least {self.patch_size * self.spatial_merge_size} is needed"
            )

    @property
    def window(self) -> int:
        """The side of a window, in merged patches."""
        return self.window_size // self.spatial_merge_size // self.patch_size

    @property
    def theta(self) -> float:
        return float((self.rope_parameters or {}).get("rope_theta", 10_000.0))


class MLP(nn.Module):
    def __init__(self, config: Qwen25VisionConfig) -> None:
        super().__init__()
        self.act = activation(config.hidden_act)
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def __call__(self, x: mx.array) -> mx.array:
        return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, config: Qwen25VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(config.hidden_size, EPS)
        self.norm2 = nn.RMSNorm(config.hidden_size, EPS)
        self.attn = Attention(config.hidden_size, config.num_heads)
        self.mlp = MLP(config)

    def __call__(self, x: mx.array, turns: Rotation, windows: list[mx.array] | None) -> mx.array:
        x = x + self.attn(self.norm1(x), turns, windows)
        return x + self.mlp(self.norm2(x))


class Merger(nn.Module):
    def __init__(self, config: Qwen25VisionConfig) -> None:
        super().__init__()
        self.size = config.hidden_size * config.spatial_merge_size**2
        self.ln_q = nn.RMSNorm(config.hidden_size, EPS)
        self.mlp = [nn.Linear(self.size, self.size), nn.GELU(), nn.Linear(self.size, config.out_hidden_size)]

    def __call__(self, x: mx.array) -> mx.array:
        x = self.ln_q(x).reshape(-1, self.size)
        for layer in self.mlp:
            x = layer(x)
        return x


class PatchEmbed(nn.Module):
    def __init__(self, config: Qwen25VisionConfig) -> None:
        super().__init__()
        values = config.in_channels * config.temporal_patch_size * config.patch_size**2
        self.proj = nn.Linear(values, config.hidden_size, bias=False)


class Qwen25VisionTower(nn.Module):
    def __init__(self, config: Qwen25VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.blocks = [Block(config) for _ in range(config.depth)]
        self.merger = Merger(config)

    def __call__(self, patches: mx.array, grid: Grid) -> mx.array:
        """Patches as the processor lays them out, of one picture; its rows [token, out_hidden_size]."""
        config = self.config
        places = by_squares(grid[1], grid[2], config.spatial_merge_size)
        turns = rotation(places, config.hidden_size // config.num_heads, config.theta)
        windows = window_patches(places, config.window * config.spatial_merge_size)
        x = self.patch_embed.proj(patches)
        for index, block in enumerate(self.blocks):
            x = block(x, turns, None if index in config.fullatt_block_indexes else windows)
        return self.merger(x)


def window_patches(places: Ints, side: int) -> list[mx.array]:
    """The patches of each window, windows with as many patches in one array [window, patch]: those at the right and at the
    bottom may be smaller."""
    row, column = places.T // side
    window = row * (column.max() + 1) + column
    _, counts = np.unique(window, return_counts=True)
    patches = np.split(np.argsort(window, kind="stable"), np.cumsum(counts)[:-1])
    return [
        mx.array(np.stack([each for each in patches if len(each) == count])) for count in np.unique(counts)
    ]


def load_tower(
    config: Qwen25VisionConfig, weights: Mapping[str, mx.array], dtype: mx.Dtype
) -> Qwen25VisionTower:
    """`weights`: all tensors of a checkpoint, or those of the tower alone."""
    tower = Qwen25VisionTower(config)
    load_tensors(tower, tower_weights(weights, config.in_channels), FUSED, dtype)
    return tower


class Qwen25Vision(QwenVision):
    network: Qwen25VisionTower

    def features(self, picture: SeenPicture) -> Features:
        patches = self.processor.numbers(picture).astype(self.dtype)
        return Features(self.network(patches, picture.grid))


def load(
    config: Mapping[str, Any], folder: Path, weights: Mapping[str, mx.array], dtype: mx.Dtype
) -> Qwen25Vision:
    vision = Qwen25VisionConfig.from_dict(section(config, "vision_config"))
    tower = load_tower(vision, weights, dtype)
    return Qwen25Vision(tower, config, processor_settings(folder), vision, dtype)
