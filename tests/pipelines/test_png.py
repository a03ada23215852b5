"""PNG as every reader takes it: held to Pillow, and to zlib alone."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from pipelines import png as module
from pipelines.png import png

# Of one strip, of many, of strips of one row that are longer than a strip should be, and with a short strip at the end.
SHAPES = [(1, 1), (1, 7), (7, 1), (24, 40), (257, 129), (513, 512), (640, 1024), (3, 70_000), (70_000, 1)]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (height, width, 3), dtype=np.uint8)


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents, each held to its checksum."""
    at = 8
    while at < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(name + content)
        yield name, content
        at += 12 + length


def stream(data: bytes) -> bytes:
    return b"".join(content for name, content in chunks(data) if name == b"IDAT")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_holds_exactly_the_pixels(shape: tuple[int, int]) -> None:
    for pixels in (noise(*shape), np.full((*shape, 3), 200, np.uint8)):
        data = png(pixels, {})
        Image.open(io.BytesIO(data)).verify()
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_strips_are_one_zlib_stream_with_one_checksum(shape: tuple[int, int]) -> None:
    height, width = shape
    reader = zlib.decompressobj()  # which refuses a stream whose checksum is another
    rows = reader.decompress(stream(png(noise(*shape), {})))
    assert reader.eof
    assert not reader.unused_data
    assert len(rows) == height * (1 + 3 * width)


def test_the_rows_are_filtered_as_those_of_one_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(300, 500)
    many = zlib.decompress(stream(png(pixels, {})))
    monkeypatch.setattr(module, "STRIP", 10**9)
    alone = zlib.decompress(stream(png(pixels, {})))
    assert many == alone


def test_strips_cost_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = np.mgrid[:1024, :1024]
    gradient = np.stack([rows // 4, columns // 4, (rows ^ columns) // 8], -1).astype(np.uint8)
    for pixels in (noise(1024, 1024), gradient):
        many = len(png(pixels, {}))
        with monkeypatch.context() as patch:
            patch.setattr(module, "STRIP", 10**9)
            assert many < 1.005 * len(png(pixels, {})) + 1000


def test_a_flat_picture_is_small() -> None:
    assert len(png(np.full((512, 512, 3), 77, np.uint8), {})) < 20_000


def test_texts_stand_before_the_pixels_where_readers_look_for_them() -> None:
    data = png(noise(200, 900), {"plain": "café", "other": "赤"})
    names = [name for name, _ in chunks(data)]
    assert names[:4] == [b"IHDR", b"tEXt", b"iTXt", b"IDAT"]
    assert names[-1] == b"IEND"
    actual = Image.open(io.BytesIO(data)).info
    assert (actual["plain"], actual["other"]) == ("café", "赤")
