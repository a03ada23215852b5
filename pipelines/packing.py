"""Pictures that go out: pixels and a recipe to PNG, JPEG or WebP, and the recipe back from a file.

Packing takes a picture off the GPU thread's hands, so PNG is written here rather than by Pillow: averaging filter,
run-length matches and a Huffman code: a third of the time of Pillow's level 1, and smaller than its default level 6.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipelines.images import FORMATS, PictureError
from pipelines.recipe import Recipe, RecipeError

Pixels = NDArray[np.uint8]

# Where the recipe stands: PNG text chunks, and for the others the EXIF tags that hold text of any length.
PARAMETERS, JSON = "parameters", "diptych"
EXIF_IFD, USER_COMMENT, DESCRIPTION = 0x8769, 0x9286, 0x010E
UNICODE = b"UNICODE\0"
MAX_JPEG_EXIF = 65_000  # of the 65,533 bytes that a JPEG segment holds
AVERAGE = 3


def pack(
    pixels: Pixels, kind: str = "png", recipe: Recipe | None = None, quality: int | None = None
) -> bytes:
    """A file of [height, width, 3] pixels. `kind` is png, jpeg or webp; `quality`, 0 to 100, is for the last two.

    A recipe that is too long for a JPEG's EXIF is left out of it: the picture matters more.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            f"pixels are {pixels.dtype} {list(pixels.shape)}, uint8 [height, width, 3] is needed"
        )
    if kind == "png":
        return _png(pixels, _texts(recipe) if recipe else {})
    if kind not in ("jpeg", "webp"):
        raise ValueError(f"format is {kind!r}, it must be png, jpeg or webp")
    exif = _exif(recipe) if recipe else b""
    out = io.BytesIO()
    picture = Image.fromarray(pixels)
    if kind == "jpeg":
        fits = exif if len(exif) <= MAX_JPEG_EXIF else b""
        picture.save(out, "JPEG", quality=95 if quality is None else quality, subsampling=0, exif=fits)
    else:
        picture.save(out, "WEBP", quality=92 if quality is None else quality, method=2, exif=exif)
    return out.getvalue()


def read_recipe(source: str | Path | bytes) -> Recipe:
    """The recipe in a file, or in the bytes of one. Reads no pixels, and trusts nothing it finds."""
    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(opened, formats=FORMATS) as picture:
            own, parameters = _found(picture)
    except FileNotFoundError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError("this is no PNG, JPEG or WebP") from error
    # As in `images.decode`: a file made to harm raises anything.
    except Exception as error:
        raise PictureError(f"the picture is damaged: {error}") from error
    if own is not None:
        return Recipe.from_json(own)
    if parameters is not None:
        return Recipe.from_parameters(parameters)
    raise RecipeError("the picture carries no recipe")


def _texts(recipe: Recipe) -> dict[str, str]:
    return {PARAMETERS: recipe.to_parameters(), JSON: recipe.to_json()}


def _found(picture: Image.Image) -> tuple[str | None, str | None]:
    """The recipe as JSON and as text, where there are any."""
    if picture.format == "PNG":
        texts = [picture.info.get(key) for key in (JSON, PARAMETERS)]
    else:
        exif = picture.getexif()
        comment = exif.get_ifd(EXIF_IFD).get(USER_COMMENT)
        description = exif.get(DESCRIPTION)
        # A description is only ours when it looks like it: cameras write one too.
        ours = isinstance(description, str) and description.startswith('{"prompt"')
        texts = [description if ours else None, _comment(comment)]
    own, parameters = (str(text) if isinstance(text, str) else None for text in texts)
    return own, parameters


def _exif(recipe: Recipe) -> bytes:
    exif = Image.Exif()
    exif[DESCRIPTION] = recipe.to_json()
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = UNICODE + recipe.to_parameters().encode("utf-16-be", "replace")
    return exif.tobytes()


def _comment(comment: object) -> str | None:
    if not isinstance(comment, bytes) or not comment.startswith(UNICODE):
        return None
    text = comment[len(UNICODE) :]
    little = text[1::2].count(0) > text[::2].count(0)  # Latin letters have their zero byte second
    return text.decode("utf-16-le" if little else "utf-16-be", "replace")


def _png(pixels: Pixels, texts: dict[str, str]) -> bytes:
    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # eight bits, RGB, no interlacing
    compressor = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    body = compressor.compress(_filtered(pixels).data) + compressor.flush()
    chunks = [(b"IHDR", header), *map(_text, texts, texts.values()), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _filtered(pixels: Pixels) -> Pixels:
    """Each row behind the number of its filter: what a pixel differs by from the mean of its left and upper one."""
    height, width, _ = pixels.shape
    left, above = np.zeros_like(pixels), np.zeros_like(pixels)
    left[:, 1:], above[1:] = pixels[:, :-1], pixels[:-1]
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = AVERAGE
    # Half the sum of two bytes without leaving bytes: what both have, and half of what only one has.
    rows[:, 1:] = (pixels - ((left & above) + ((left ^ above) >> 1))).reshape(height, -1)
    return rows


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _text(key: str, text: str) -> tuple[bytes, bytes]:
    """A text chunk; plain where Latin-1 can say it, which every reader knows, else international."""
    text = text.replace("\0", "")
    try:
        return b"tEXt", key.encode() + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:
        return b"iTXt", key.encode() + b"\0\0\0\0\0" + text.encode("utf-8", "replace")
