"""Picture files: the header is read first, so that a request can be planned and its memory added up; then the picture is
decoded, to no more than what a model looks at.

Whatever is wrong with a file is a PictureError. Malicious files are small and costly to decode, so the header decides what
decoding may cost, and only the decoder's own buffer grows with it.
"""

import base64
import binascii
import contextlib
import io
import math
import re
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipelines.base import Mask, Pixels, Size
from pipelines.images import MAX_PIXELS, PictureError, check_size

FORMATS = ("PNG", "JPEG", "WEBP")
# WebP's decoder holds four copies at a time.
MAX_WEBP_PIXELS = MAX_PIXELS // 2
# Larger pictures are reduced while they are decoded, which may differ by a shade from reducing the whole.
LARGE = 16 * 1024 * 1024
HALF = 128  # a mask's levels from here on are white, or opaque
BAND = 2 * 1024 * 1024  # pixels that are converted at a time
# Many small parts in a header take the decoder long, and each scan of a JPEG covers the whole picture.
MOST_READS = 200_000
MOST_SCANS = 100

# What turns a picture upright, by its orientation tag.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LYING = (5, 6, 7, 8)  # the file's columns are the picture's rows
REVERSED = (3, 4, 7, 8)  # the picture's first row is the file's last
ORIENTATION = 0x0112
MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")  # of a JPEG, with something after it
SCAN, END = b"\xda", b"\xd9"
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


def from_base64(text: str) -> bytes:
    """Bytes from base64 as clients send it: bare or in a data URI, either alphabet, line breaks, with or without padding."""
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise PictureError("the picture is a data URI that is not in base64")
    if re.search(r"[\s_-]", text):  # each of these copies the whole text
        text = re.sub(r"\s+", "", text).translate(str.maketrans("-_", "+/"))
    text = text.rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise PictureError(f"the picture is not valid base64: {error}") from error


class PictureFile:
    """A PNG, JPEG or WebP, of which the header has been read. `size`: its width and height when seen upright."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        with _opened(data) as picture:
            check_size(*picture.size)
            if picture.format == "WEBP":
                check_size(*picture.size, most=MAX_WEBP_PIXELS)
            if picture.format in ("JPEG", "MPO") and _scans(data) > MOST_SCANS:
                raise PictureError(f"the picture is a JPEG of more than the {MOST_SCANS} scans accepted")
            self._orientation = _orientation(picture, data)
            width, height = picture.size
        self.size: Size = (height, width) if self._lies else (width, height)

    @property
    def _lies(self) -> bool:
        return self._orientation in LYING

    def pixels(self, size: Size | None = None) -> Pixels:
        """Upright RGB of its own size or reduced to another: transparency on white, of an animation the first
        frame."""
        with _opened(self.data) as picture:
            if size not in (None, self.size) and math.prod(self.size) > LARGE:
                # A JPEG can be decoded to a half, a quarter or an eighth; what is left is reduced as any other.
                picture.draft(None, _double(size[::-1] if self._lies else size))
            picture.load()
            upright = _Upright(picture, self._orientation)
            if size in (None, upright.size):
                return upright.whole()
            return upright.reduced(size) if math.prod(upright.size) > LARGE else upright.resized(size)

    def mask(self) -> Mask:
        """What is to change: where the picture is transparent, or, if it is opaque everywhere, where it is white rather than
        black."""
        with _opened(self.data) as picture:
            picture.load()
            upright = _Upright(picture, self._orientation)
            transparent = upright.transparent()
            return upright.white() if transparent is None else transparent


class _Upright:
    """A decoded picture turned upright, converted a band of rows at a time to save memory."""

    def __init__(self, picture: Image.Image, orientation: int) -> None:
        self._picture = picture
        self._turn = TURNS.get(orientation)
        self._lies, self._reversed = orientation in LYING, orientation in REVERSED
        self.size: Size = picture.size[::-1] if self._lies else picture.size

    def whole(self) -> Pixels:
        width, height = self.size
        pixels = np.empty((height, width, 3), np.uint8)
        for top, bottom in _bands(height, width):
            pixels[top:bottom] = np.asarray(self._rows(top, bottom))
        return pixels

    def resized(self, size: Size) -> Pixels:
        """Resized exactly as the whole picture would be."""
        picture = Image.new("RGB", self.size)
        for top, bottom in _bands(self.size[1], self.size[0]):
            picture.paste(self._rows(top, bottom), (0, top))
        return np.asarray(picture.resize(size, Image.Resampling.LANCZOS))

    def reduced(self, size: Size) -> Pixels:
        """Resized without converting the whole picture to RGB; may differ by a shade."""
        (width, height), scale = self.size, self.size[1] / size[1]
        pixels = np.empty((size[1], size[0], 3), np.uint8)
        reach = math.ceil(3 * max(scale, 1)) + 1  # rows that the filter sees beyond those it stands on
        for top, bottom in _bands(size[1], math.ceil(width * scale)):
            first = max(math.floor(top * scale) - reach, 0)
            last = min(math.ceil(bottom * scale) + reach, height)
            box = (0.0, top * scale - first, float(width), min(bottom * scale, height) - first)
            rows = self._rows(first, last)
            pixels[top:bottom] = np.asarray(
                rows.resize((size[0], bottom - top), Image.Resampling.LANCZOS, box)
            )
        return pixels

    def white(self) -> Mask:
        width, height = self.size
        white = np.empty((height, width), np.bool_)
        for top, bottom in _bands(height, width):
            white[top:bottom] = np.asarray(self._rows(top, bottom).convert("L")) >= HALF
        return white

    def transparent(self) -> Mask | None:
        """None: the picture is opaque everywhere."""
        if not self._picture.has_transparency_data:
            return None
        width, height = self.size
        transparent = np.empty((height, width), np.bool_)
        for top, bottom in _bands(height, width):
            alpha = self._turned(top, bottom, lambda rows: rows.convert("RGBA").getchannel("A"))
            transparent[top:bottom] = np.asarray(alpha) < HALF
        return transparent if transparent.any() else None

    def _rows(self, top: int, bottom: int) -> Image.Image:
        """Some rows of the picture as RGB."""
        return self._turned(top, bottom, _rgb)

    def _turned(self, top: int, bottom: int, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
        """Some rows of the picture, converted."""
        if self._reversed:
            top, bottom = self.size[1] - bottom, self.size[1] - top
        width, height = self._picture.size
        box = (top, 0, bottom, height) if self._lies else (0, top, width, bottom)
        rows = convert(self._picture.crop(box))
        return rows if self._turn is None else rows.transpose(self._turn)


def _bands(rows: int, pixels: int) -> Iterator[tuple[int, int]]:
    """Bands that cover the rows, of `pixels` pixels each."""
    step = max(BAND // pixels, 1)
    return ((top, min(top + step, rows)) for top in range(0, rows, step))


def _double(size: Size) -> Size:
    return 2 * size[0], 2 * size[1]


class _Data(io.BytesIO):
    """A file's bytes, read in a bounded number of pieces."""

    _reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > MOST_READS:
            raise PictureError("the picture is damaged, or is made of far too many parts")
        return super().read(size)


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Open the picture and read its header. Any error in the block becomes a PictureError."""
    try:
        with Image.open(_Data(data), formats=FORMATS) as picture:
            yield picture
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(f"the picture is {_guess(data)}; PNG, JPEG and WebP are accepted") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(
            f"the picture has far more than the {MAX_PIXELS >> 20} megapixels accepted"
        ) from error
    # Decoders raise all kinds of errors on malicious files; here they all mean the same.
    except Exception as error:
        raise PictureError(f"the picture is damaged: {error}") from error


def _orientation(picture: Image.Image, data: bytes) -> int:
    """Without decoding: a PNG may have its EXIF after the pixels, which Pillow decodes to get there."""
    if picture.format == "PNG" and not picture.info.keys() & {"exif", "Raw profile type exif"}:
        exif = Image.Exif()
        exif.load(_late_exif(data))
    else:
        exif = picture.getexif()
    orientation = exif.get(ORIENTATION, 1)
    return orientation if orientation in TURNS else 1


def _scans(data: bytes) -> int:
    """The number of scans of a JPEG, counted up to just above the limit."""
    scans = place = 0
    for _ in range(MOST_READS):
        marker = MARKER.search(data, place)
        if marker is None or marker[1] == END or scans > MOST_SCANS:
            break
        scans += marker[1] == SCAN
        place = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return scans


def _late_exif(data: bytes) -> bytes:
    """The content of a PNG's eXIf chunk, wherever it is; empty without one."""
    place = 8
    for _ in range(MOST_READS):
        length, kind = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        if kind == b"eXIf":
            return data[place + 8 : place + 8 + length]
        if len(kind) < 4 or kind == b"IEND":
            break
        place += length + 12
    return b""


def _guess(data: bytes) -> str:
    """The kind of file that the first bytes indicate."""
    if not data:
        return "empty"
    start = data[:64].lstrip().removeprefix(b"\xef\xbb\xbf")
    return next((name for magic, name in OTHERS.items() if start.startswith(magic)), "of an unknown format")


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits of grey; converting would clip them
        deep = np.asarray(picture).clip(0, 65535).astype(np.uint32)
        grey = ((deep * 255 + 32767) // 65535).astype(np.uint8)
        clear = picture.info.get("transparency")
        return Image.fromarray(np.where(deep == clear, 255, grey).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")
