"""Pictures for tests, as clients send them."""

import base64
import io

import numpy as np
from PIL import Image

Size = tuple[int, int]


def noise(seed: int, size: Size = (40, 30)) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def encoded(picture: Image.Image, format: str = "PNG", **options: object) -> str:
    """In base64."""
    file = io.BytesIO()
    picture.save(file, format, **options)
    return base64.b64encode(file.getvalue()).decode()


def sent(seed: int, size: Size = (40, 30)) -> str:
    return encoded(noise(seed, size))


def uri(seed: int, size: Size = (40, 30)) -> str:
    return f"data:image/png;base64,{sent(seed, size)}"
