"""Input pictures, from upright RGB to what an autoencoder takes; picture_files.py decodes them.

Sizes and crops are those of the reference pipelines' image processors.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.base import Size

if TYPE_CHECKING:
    import mlx.core as mx

MAX_PIXELS = 64 * 1024 * 1024
MAX_RATIO = 64  # beyond it, resizing one side to a usable size makes the other huge
REFERENCE_AREA = 1024 * 1024
WHOLE_AREA, WHOLE_SIDE, LEAST_WHOLE_SIDE = 4 * REFERENCE_AREA, 4096, 64
BACK = 0.995  # how much smaller a picture is made, again and again, until it fits with its margins
REFERENCE_RATIO, REFERENCE_SIDE = 8, 64


class PictureError(ValueError):
    """An input picture that cannot be used; the message says why, in words for the client."""


def check_size(width: int, height: int, most: int = MAX_PIXELS) -> None:
    if width * height > most:
        raise PictureError(f"the picture is {width} x {height}; at most {most >> 20} megapixels are accepted")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise PictureError(f"the picture is {width} x {height}; at most {MAX_RATIO} to 1 is accepted")


def to_start(picture: Image.Image, width: int, height: int) -> NDArray[np.float32]:
    """The picture that image-to-image starts from, stretched to the size that is drawn: [1, height, width, 3]."""
    return _normalised(picture.resize((width, height), Image.Resampling.LANCZOS))


def check_reference(width: int, height: int, multiple: int = 16) -> None:
    """Raise a PictureError if FLUX.2 cannot look at a picture of this size."""
    least = max(REFERENCE_SIDE, multiple)
    if min(width, height) < least:
        raise PictureError(
            f"the picture is {width} x {height}; a reference needs at least {least} pixels along each side"
        )
    if max(width / height, height / width) > REFERENCE_RATIO:
        raise PictureError(
            f"the picture is {width} x {height}; a reference may be at most {REFERENCE_RATIO} to 1"
        )


def to_reference(picture: Image.Image, multiple: int = 16) -> NDArray[np.float32]:
    """A picture for FLUX.2 to look at: at most a megapixel, cropped to the multiple around the centre."""
    width, height = picture.size
    check_reference(width, height, multiple)
    if (size := reference_size(width, height)) != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    across, down = drawn_size(width, height, multiple)
    left, top = (picture.width - across) // 2, (picture.height - down) // 2
    return _normalised(picture.crop((left, top, left + across, top + down)))


def whole_size(width: int, height: int, multiple: int = 16) -> Size:
    """A picture's size rounded up to the multiple: with the margins that FLUX.3 looks at it with."""
    sides = (-(-side // multiple) * multiple for side in (width, height))
    width, height = (min(WHOLE_SIDE, max(LEAST_WHOLE_SIDE, side)) for side in sides)
    return width, height


def fitted_size(width: int, height: int, multiple: int = 16) -> Size:
    """The size to which FLUX.3's one reference is reduced: with its margins at most four megapixels."""
    scale = min(1.0, math.sqrt(WHOLE_AREA / (width * height)), WHOLE_SIDE / max(width, height))
    while True:
        fitted = max(1, round(width * scale)), max(1, round(height * scale))
        if math.prod(whole_size(*fitted, multiple)) <= WHOLE_AREA:
            return fitted
        scale *= BACK


def to_whole_reference(picture: Image.Image, multiple: int = 16) -> NDArray[np.float32]:
    """A picture for FLUX.3 to look at as a whole, reflected in margins that fill it up to the multiple."""
    if (size := fitted_size(*picture.size, multiple)) != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    (width, height), (across, down) = size, whole_size(*size, multiple)
    left, top = (across - width) // 2, (down - height) // 2
    margins = ((top, down - height - top), (left, across - width - left), (0, 0))
    # A reflection leaves out the outermost pixels, and a picture smaller than a token has too few for one.
    mode = "reflect" if min(size) > multiple else "symmetric"
    return _normalised(Image.fromarray(np.pad(np.asarray(picture), margins, mode=mode)))  # type: ignore[call-overload]


def middle(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """The part of this size around the centre."""
    (height, width, _), (across, down) = pixels.shape, size
    left, top = (width - across) // 2, (height - down) // 2
    return pixels[top : top + down, left : left + across]


def drawn_size(width: int, height: int, multiple: int = 16) -> Size:
    """The default size of a picture drawn from one of this size: its shape, at most a megapixel."""
    width, height = reference_size(width, height)
    return max(width // multiple, 1) * multiple, max(height // multiple, 1) * multiple


def reference_size(width: int, height: int) -> Size:
    """The size to which a reference is reduced before it is cropped: at most a megapixel."""
    if width * height <= REFERENCE_AREA:
        return width, height
    scale = math.sqrt(REFERENCE_AREA / (width * height))
    return int(width * scale), int(height * scale)


def _normalised(picture: Image.Image) -> NDArray[np.float32]:
    """[1, height, width, 3] from -1 to 1."""
    shown = np.asarray(picture).astype(np.float32) / np.float32(255)
    return (np.float32(2) * shown - np.float32(1))[None]


def to_bytes(decoded: "mx.array") -> "mx.array":
    """Decoded pixels, [..., 3] from -1 to 1, as bytes; unevaluated."""
    import mlx.core as mx

    shown = mx.clip(decoded.astype(mx.float32) * 0.5 + 0.5, 0, 1)
    return mx.round(shown * 255).astype(mx.uint8)
