"""Pictures that come in: from bytes that may be anything to upright RGB, then to what an autoencoder takes.

Sizes and crops are those of the reference pipelines' image processors. What is no picture, or too large a one, is a
PictureError, whatever the decoder stumbles over.
"""

import base64
import binascii
import io
import math
import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

if TYPE_CHECKING:
    import mlx.core as mx

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 64 * 1024 * 1024
MAX_RATIO = 64  # no use as a picture, and resizing makes something huge of it
REFERENCE_AREA = 1024 * 1024
REFERENCE_RATIO, REFERENCE_SIDE = 8, 64

# What the orientation tag says must be done to see the picture upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION = 0x0112
OTHERS = {
    b"\x89PNG": "a damaged PNG",
    b"\xff\xd8": "a damaged JPEG",
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"%PDF": "a PDF",
    b"<svg": "an SVG",
    b"<?xml": "XML",
    b"<!DOC": "HTML",
    b"<html": "HTML",
    b"PK\3\4": "a ZIP",
}


class PictureError(ValueError):
    """Bytes that cannot be taken as a picture; the message says why, fit for the one who sent them."""


def from_base64(text: str) -> bytes:
    """Base64 as clients send it: bare or in a data URI, either alphabet, with line breaks, with or without padding."""
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise PictureError("the picture is a data URI that is not in base64")
    text = re.sub(r"\s+", "", text).rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise PictureError(f"the picture is no base64: {error}") from error


def decode(data: bytes) -> Image.Image:
    """An upright RGB picture from a PNG, JPEG or WebP: transparency on white, the first frame of an animation."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            check_size(*picture.size)
            picture.load()
            turn = TURNS.get(picture.getexif().get(ORIENTATION, 1))
            upright = _rgb(picture)
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(f"the picture is {_guess(data)}; PNG, JPEG and WebP are accepted") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(
            f"the picture has far more than the {MAX_PIXELS >> 20} megapixels accepted"
        ) from error
    # A decoder fed with malice raises whatever it stumbles over; all of it means the same here.
    except Exception as error:
        raise PictureError(f"the picture is damaged: {error}") from error
    return upright.transpose(turn) if turn is not None else upright


def check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PictureError(
            f"the picture is {width} x {height}; at most {MAX_PIXELS >> 20} megapixels are accepted"
        )
    if max(width, height) > MAX_RATIO * min(width, height):
        raise PictureError(f"the picture is {width} x {height}; at most {MAX_RATIO} to 1 is accepted")


def _guess(data: bytes) -> str:
    """What the bytes are instead of a picture, as far as their beginning tells."""
    if not data:
        return "empty"
    start = data[:64].lstrip().removeprefix(b"\xef\xbb\xbf")
    return next((name for magic, name in OTHERS.items() if start.startswith(magic)), "of an unknown format")


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits of grey; converting would clip them
        deep = np.clip(np.asarray(picture).astype(np.int64), 0, 65535)
        grey = ((deep * 255 + 32767) // 65535).astype(np.uint8)
        clear = picture.info.get("transparency")
        return Image.fromarray(np.where(deep == clear, 255, grey).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def to_start(picture: Image.Image, width: int, height: int) -> NDArray[np.float32]:
    """The picture that image-to-image starts from, stretched to the size that is drawn: [1, height, width, 3]."""
    return _normalised(picture.resize((width, height), Image.Resampling.LANCZOS))


def check_reference(width: int, height: int, multiple: int = 16) -> None:
    """Whether FLUX.2 can look at a picture of this size."""
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
    """A picture for FLUX.2 to look at: a megapixel at most, sides cut to the multiple around the centre."""
    width, height = picture.size
    check_reference(width, height, multiple)
    if width * height > REFERENCE_AREA:
        picture = picture.resize(_within_area(width, height), Image.Resampling.LANCZOS)
    across, down = drawn_size(width, height, multiple)
    left, top = (picture.width - across) // 2, (picture.height - down) // 2
    return _normalised(picture.crop((left, top, left + across, top + down)))


def drawn_size(width: int, height: int, multiple: int = 16) -> tuple[int, int]:
    """The size that is drawn after a picture of this size where none was asked for: its shape, a megapixel at most."""
    if width * height > REFERENCE_AREA:
        width, height = _within_area(width, height)
    return max(width // multiple, 1) * multiple, max(height // multiple, 1) * multiple


def _within_area(width: int, height: int) -> tuple[int, int]:
    scale = math.sqrt(REFERENCE_AREA / (width * height))
    return int(width * scale), int(height * scale)


def _normalised(picture: Image.Image) -> NDArray[np.float32]:
    """[1, height, width, 3] from -1 to 1."""
    shown = np.asarray(picture).astype(np.float32) / np.float32(255)
    return (np.float32(2) * shown - np.float32(1))[None]


def to_bytes(decoded: "mx.array") -> "mx.array":
    """What an autoencoder decoded, [..., 3] from -1 to 1, as bytes; not computed yet."""
    import mlx.core as mx

    shown = mx.clip(decoded.astype(mx.float32) * 0.5 + 0.5, 0, 1)
    return mx.round(shown * 255).astype(mx.uint8)
