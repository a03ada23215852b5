"""Pictures for Idefics 3 and SmolVLM: square tiles in rows, and behind them the whole picture as one more."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np
from PIL import Image

from models.config import ConfigError
from models.vision.interface import SeenPicture
from models.vision.pixels import PixelSettings, digest, positive, rgb

LONGEST = 4096  # pixels of a side, whatever the settings


@dataclass(frozen=True)
class Idefics3Processor(PixelSettings):
    resample: int = int(Image.Resampling.LANCZOS)
    do_image_splitting: bool = True
    size: Mapping[str, int] = field(default_factory=lambda: {"longest_edge": 4 * 364})
    max_image_size: Mapping[str, int] = field(default_factory=lambda: {"longest_edge": 364})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("size", "max_image_size"):
            edges = getattr(self, name)
            if "longest_edge" not in edges:
                raise ConfigError(f"{type(self).__name__}: {name} is {dict(edges)}; longest_edge is needed")
            positive(f"{type(self).__name__}: {name}", longest_edge=edges["longest_edge"])

    @property
    def side(self) -> int:
        """Of a tile, in pixels."""
        return self.max_image_size["longest_edge"]

    def look(self, image: Image.Image, rows: int) -> SeenPicture:
        """`rows`: what a tile becomes in the prompt."""
        image = rgb(image)
        image = self.resized(image, *resized_to(image.height, image.width, self.size["longest_edge"]))
        grid = (0, 0)
        tiles: list[Image.Image] = []
        if self.do_image_splitting:
            image = self.resized(image, *whole_tiles(image.height, image.width, self.side))
            if max(image.size) > self.side:
                grid = (image.height // self.side, image.width // self.side)
                tiles = [
                    self._tile(image, row, column) for row in range(grid[0]) for column in range(grid[1])
                ]
        tiles.append(self.resized(image, self.side, self.side))
        pixels = np.stack([np.asarray(tile).transpose(2, 0, 1) for tile in tiles])
        return SeenPicture(pixels, grid, rows * len(tiles), digest(pixels, grid))

    def _tile(self, image: Image.Image, row: int, column: int) -> Image.Image:
        left, top = column * self.side, row * self.side
        return image.crop((left, top, left + self.side, top + self.side))

    def numbers(self, picture: SeenPicture) -> mx.array:
        return self.normalized(picture.pixels)


def resized_to(height: int, width: int, longest: int) -> tuple[int, int]:
    """The longer side as long as asked, the other even."""
    ratio = width / height
    if width >= height:
        width, height = longest, int(longest / ratio)
        height += height % 2
    else:
        height, width = longest, int(longest * ratio)
        width += width % 2
    height, width = max(height, 1), max(width, 1)
    ratio = width / height
    if width >= height and width > LONGEST:
        width, height = LONGEST, int(LONGEST / ratio)
    elif height > width and height > LONGEST:
        height, width = LONGEST, int(LONGEST * ratio)
    return max(height, 1), max(width, 1)


def whole_tiles(height: int, width: int, side: int) -> tuple[int, int]:
    """Both sides as multiples of a tile's."""
    ratio = width / height
    if width >= height:
        width = math.ceil(width / side) * side
        height = math.ceil(int(width / ratio) / side) * side
    else:
        height = math.ceil(height / side) * side
        width = math.ceil(int(height * ratio) / side) * side
    # A line of one pixel has been rounded to none.
    return max(height, side), max(width, side)
