"""Pictures for Qwen2.5-VL and Qwen3-VL: of any size, in patches that lie together where the tower merges them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.config import ConfigError
from models.vision.interface import SeenPicture
from models.vision.pixels import CLIP_MEAN, CLIP_STD, PixelSettings, digest, positive, rgb

MOST_UNEVEN = 200  # how many times longer one side may be than the other


@dataclass(frozen=True)
class QwenProcessor(PixelSettings):
    image_mean: tuple[float, ...] = CLIP_MEAN
    image_std: tuple[float, ...] = CLIP_STD
    patch_size: int = 14
    temporal_patch_size: int = 2
    merge_size: int = 2
    # The fewest and the most pixels.
    size: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        size = values.get("size")
        pixels = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}
        pixels |= size if isinstance(size, Mapping) else {}
        for old, new in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
            if values.get(old) is not None:
                pixels[new] = values[old]
        return super().from_dict(
            {**values, "size": {key: pixels[key] for key in ("shortest_edge", "longest_edge")}}
        )

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        positive(
            where,
            patch_size=self.patch_size,
            temporal_patch_size=self.temporal_patch_size,
            merge_size=self.merge_size,
        )
        positive(where, **self.size)

    def check(self, **vision: int) -> None:
        """The tower has to take the patches that are made here."""
        for name, value in vision.items():
            if getattr(self, name) != value:
                raise ConfigError(
                    f"{type(self).__name__}: {name} is {getattr(self, name)}, but that of vision_config is {value}"
                )

    def look(self, image: Image.Image) -> SeenPicture:
        height, width = self.resized_to(image.height, image.width)
        patches = self._patches(np.asarray(self.resized(rgb(image), height, width)))
        grid = (1, height // self.patch_size, width // self.patch_size)
        return SeenPicture(patches, grid, grid[1] * grid[2] // self.merge_size**2, digest(patches, grid))

    def numbers(self, picture: SeenPicture) -> mx.array:
        """[patch, channel x time x row x column]: a picture is a film of equal frames."""
        patches = self.normalized(picture.pixels)[:, :, None]
        return mx.repeat(patches, self.temporal_patch_size, axis=2).flatten(1)

    def resized_to(self, height: int, width: int) -> tuple[int, int]:
        """The sides as multiples of what is merged, near the picture's shape, with a permitted number of pixels."""
        if max(height, width) > MOST_UNEVEN * min(height, width):
            raise ValueError(
                f"a picture of {width} x {height} pixels is too narrow: one side may be at most {MOST_UNEVEN} times the other"
            )
        unit = self.patch_size * self.merge_size
        least, most = self.size["shortest_edge"], self.size["longest_edge"]
        rows, columns = round(height / unit), round(width / unit)
        if rows * columns * unit**2 > most:
            scale = math.sqrt(height * width / most)
            rows, columns = (max(1, math.floor(side / scale / unit)) for side in (height, width))
        elif rows * columns * unit**2 < least:
            scale = math.sqrt(least / (height * width))
            rows, columns = (math.ceil(side * scale / unit) for side in (height, width))
        return rows * unit, columns * unit

    def _patches(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """[patch, channel, row, column], the patches of a merged square one after another."""
        size, merge = self.patch_size, self.merge_size
        height, width, channels = pixels.shape
        squares = pixels.reshape(
            height // size // merge, merge, size, width // size // merge, merge, size, channels
        )
        patches = squares.transpose(0, 3, 1, 4, 6, 2, 5)
        return np.ascontiguousarray(patches).reshape(-1, channels, size, size)
