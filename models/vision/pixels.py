"""A picture to the numbers that a vision tower takes, as transformers' processors with Pillow compute them."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.config import Config, ConfigError
from models.vision.interface import DIGEST_BYTES

Pixels = NDArray[np.float32]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class PixelSettings(Config):
    """What preprocessor_config.json says about pixels; families differ in their defaults."""

    do_resize: bool = True
    do_rescale: bool = True
    do_normalize: bool = True
    resample: int = int(Image.Resampling.BICUBIC)
    rescale_factor: float = 1 / 255
    image_mean: tuple[float, ...] = HALF
    image_std: tuple[float, ...] = HALF

    def __post_init__(self) -> None:
        where = type(self).__name__
        if not self.do_resize:
            raise ConfigError(f"{where}: do_resize is false; only true is supported")
        if self.resample not in list(Image.Resampling):
            raise ConfigError(f"{where}: resample is {self.resample}; a filter of Pillow, 0 to 5, is needed")
        for name in ("image_mean", "image_std"):
            values = getattr(self, name)
            if len(values) != 3 or (name == "image_std" and 0.0 in values):
                raise ConfigError(
                    f"{where}: {name} is {list(values)}; three numbers are needed, image_std without 0"
                )

    def resized(self, image: Image.Image, height: int, width: int) -> Image.Image:
        return image.resize((width, height), Image.Resampling(self.resample))

    @cached_property
    def table(self) -> Pixels:
        """What a byte of each channel becomes: [channel, byte]."""
        values: NDArray[Any] = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
        if self.do_rescale:
            values = values * np.float64(self.rescale_factor)
        values = values.astype(np.float32)
        if self.do_normalize:
            mean, std = (np.array(each, np.float32) for each in (self.image_mean, self.image_std))
            values = (values - mean) / std
        return np.ascontiguousarray(values.T)

    def normalized(self, pixels: NDArray[np.uint8]) -> mx.array:
        """Bytes [picture or patch, channel, …] as numbers. Looked up, so that they round as in NumPy."""
        channels = np.arange(3, dtype=np.uint32).reshape(1, 3, *[1] * (pixels.ndim - 2))
        return mx.array(self.table).flatten()[mx.array(pixels).astype(mx.uint32) + 256 * mx.array(channels)]


def rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def positive(where: str, **values: int) -> None:
    """Sizes in a configuration have to be above zero."""
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"{where}: {name} is {value}; a whole number above 0 is needed")


def digest(pixels: NDArray[np.uint8], grid: tuple[int, ...]) -> bytes:
    return hashlib.sha256(repr((grid, pixels.shape)).encode() + pixels.tobytes()).digest()[:DIGEST_BYTES]
