"""Pictures as clients send them, good and bad, large and small: what is made of them, and what that costs."""

import base64
import contextlib
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.images import PictureError
from pipelines.picture_files import MAX_WEBP_PIXELS, PictureFile, from_base64

RED, WHITE = (255, 0, 0), (255, 255, 255)


def decode(data: bytes) -> Image.Image:
    return Image.fromarray(PictureFile(data).pixels())


def saved(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def scene(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    bands = np.stack([x * 255 // width, y * 255 // height, (x * y) % 256], axis=-1)
    return Image.fromarray(bands.astype(np.uint8))


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of any chunks, however wrong."""
    framed = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def header(width: int, height: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_is_decoded(kind: str) -> None:
    picture = decode(saved(scene(40, 24), kind))
    assert picture.mode == "RGB"
    assert picture.size == (40, 24)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_photo_is_turned_upright(kind: str, orientation: int) -> None:
    lying = Image.new("RGB", (32, 16), WHITE)
    lying.paste(RED, (0, 0, 8, 8))  # in the upper left as stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = decode(saved(lying, kind, exif=exif))
    assert upright.size == ((32, 16) if orientation < 5 else (16, 32))
    corner = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}
    x, y = corner[orientation]
    actual = upright.getpixel((4 if not x else upright.width - 5, 4 if not y else upright.height - 5))
    assert np.abs(np.subtract(actual, RED)).max() < 40


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_flattened_on_white(mode: str) -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    clear.paste((255, 0, 0, 255), (0, 0, 4, 8))
    if mode == "PA":
        clear, mode = clear.quantize(8), "P"
    flat = decode(saved(clear.convert(mode)))
    assert flat.getpixel((6, 4)) == WHITE
    assert flat.getpixel((2, 4)) == ((76, 76, 76) if mode == "LA" else RED)


def test_half_transparency_mixes_with_white() -> None:
    half = decode(saved(Image.new("RGBA", (4, 4), (255, 0, 0, 128))))
    assert half.getpixel((0, 0)) == (255, 127, 127)


@pytest.mark.parametrize(("mode", "clear"), [("RGB", RED), ("L", 7)])
def test_a_colour_that_is_declared_transparent_is_white(mode: str, clear: Any) -> None:
    picture = Image.new(mode, (4, 4), clear)
    assert decode(saved(picture, transparency=clear)).getpixel((0, 0)) == WHITE


def masked(picture: Image.Image, kind: str = "PNG", **options: Any) -> np.ndarray:
    return PictureFile(saved(picture, kind, **options)).mask()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_the_white_part_of_a_mask_is_true(mode: str) -> None:
    grey = Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8))
    picture = grey.convert(mode, dither=Image.Dither.NONE)
    np.testing.assert_array_equal(masked(picture), [[False, False, True, True]])


def test_a_mask_with_transparency_is_true_there_whatever_its_colours() -> None:
    pixels = np.array([[[255, 255, 255, 255], [0, 0, 0, 0], [255, 0, 0, 127], [9, 9, 9, 128]]], np.uint8)
    np.testing.assert_array_equal(masked(Image.fromarray(pixels)), [[False, True, True, False]])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_turned_upright_as_its_photo_is(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    grey = Image.fromarray((np.arange(24).reshape(4, 6) * 11).astype(np.uint8))
    data = saved(grey, exif=exif)
    np.testing.assert_array_equal(PictureFile(data).mask(), PictureFile(data).pixels()[..., 0] >= 128)


def test_a_damaged_mask_is_an_error() -> None:
    whole = saved(scene(40, 24))
    with pytest.raises(PictureError, match="the picture is damaged"):
        PictureFile(whole[: len(whole) // 2]).mask()


def test_a_palette_is_looked_up() -> None:
    assert decode(saved(Image.new("RGB", (4, 4), RED).quantize(4))).getpixel((0, 0)) == RED


def test_one_bit_is_black_and_white() -> None:
    assert decode(saved(Image.new("1", (4, 4), 1))).getpixel((0, 0)) == WHITE


def test_sixteen_bits_of_grey_keep_their_brightness() -> None:
    deep = Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16))
    assert [decode(saved(deep)).getpixel((x, 0)) for x in range(3)] == [(0,) * 3, (100,) * 3, WHITE]


def test_sixteen_bits_of_colour_are_reduced() -> None:
    rows = zlib.compress(b"\0" + struct.pack(">6H", 65535, 0, 257 * 128, 0, 65535, 65535))
    deep = png((b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b""))
    assert [decode(deep).getpixel((x, 0)) for x in range(2)] == [(255, 0, 128), (0, 255, 255)]


def test_a_print_jpeg_becomes_rgb() -> None:
    actual = decode(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")).getpixel((4, 4))
    assert np.abs(np.subtract(actual, RED)).max() < 10


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, WHITE)]
    moving = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, lossless=True)
    assert decode(moving).getpixel((4, 4)) == RED


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"\0" * 64, "unknown format"),
        (SVG, "an SVG"),
        (b"<?xml version='1.0'?>" + SVG, "XML"),
        (b"<!DOCTYPE html>", "HTML"),
        (saved(Image.new("RGB", (4, 4)), "GIF"), "a GIF"),
        (saved(Image.new("RGB", (4, 4)), "BMP"), "a BMP"),
        (saved(Image.new("RGB", (4, 4)), "TIFF"), "a TIFF"),
        (b"%PDF-1.7\n" + saved(scene(8, 8)), "a PDF"),
        (b"PK\3\4" + saved(scene(8, 8)), "a ZIP"),
        (b"\x89PNG\r\n\x1a\n" + SVG, "a damaged PNG"),
        (saved(scene(64, 64))[:-200], "damaged"),
        (saved(scene(64, 64), "JPEG")[:-200], "damaged"),
        (saved(scene(64, 64), "WEBP")[:-200], "damaged"),
        (saved(scene(64, 64))[:40], "a damaged PNG"),
        (png(header(20_000, 20_000), (b"IDAT", zlib.compress(b"\0" * 99)), (b"IEND", b"")), "far more"),
        (png(header(9000, 8000), (b"IDAT", zlib.compress(b"\0" * 99)), (b"IEND", b"")), "64 megapixels"),
        (png(header(100_000, 1), (b"IDAT", zlib.compress(b"\0" * 300_001)), (b"IEND", b"")), "64 to 1"),
        (png(header(1, 100_000), (b"IDAT", zlib.compress(b"\0\0\0\0" * 100_000)), (b"IEND", b"")), "64 to 1"),
        (png(header(0, 8), (b"IEND", b"")), "a damaged PNG"),
        (png(header(8, 8), (b"zTXt", b"k\0\0" + zlib.compress(b"a" * 10**8)), (b"IEND", b"")), "too large"),
    ],
)
def test_what_is_no_good_picture_is_an_error_that_says_why(data: bytes, said: str) -> None:
    with pytest.raises(PictureError, match=said):
        decode(data)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_broken_file_is_a_picture_or_a_picture_error(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP"]))
    exif = Image.Exif()
    exif[0x0112] = 6
    good = bytearray(saved(scene(24, 24), kind, exif=exif))
    for _ in range(data.draw(st.integers(1, 8))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PictureError):
        assert decode(bytes(good[: data.draw(st.integers(0, len(good)))])).mode == "RGB"


def test_base64_is_taken_as_clients_send_it() -> None:
    data = bytes(range(251, 256)) * 5
    bare = base64.b64encode(data).decode()
    for sent in (
        bare,
        bare.rstrip("="),
        f"data:image/png;base64,{bare}",
        f"data:image/svg+xml;charset=utf-8;base64,{bare}",
        base64.urlsafe_b64encode(data).decode(),
        "\r\n".join(bare[i : i + 7] for i in range(0, len(bare), 7)),
    ):
        assert from_base64(sent) == data


@pytest.mark.parametrize(
    "sent", ["data:image/png,abc", "data:image/png;base64", "not base64!", "a", "http://x/y.png", "é"]
)
def test_what_is_no_base64_is_an_error(sent: str) -> None:
    with pytest.raises(PictureError):
        from_base64(sent)


# -- what a picture may cost


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "I;16"])
def test_a_picture_is_reduced_as_the_whole_of_it_would_be(mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = scene(1500, 1100)
    if mode == "RGBA":
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    elif mode == "P":
        picture = picture.quantize(64)
    elif mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 200)
    file = PictureFile(saved(picture, exif=exif))
    size = (600, 400) if orientation < 5 else (400, 600)
    whole = Image.fromarray(file.pixels()).resize(size, Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(file.pixels(size), np.asarray(whole))


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_large_picture_is_reduced_while_it_is_decoded_and_hardly_differs(
    kind: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = PictureFile(saved(scene(1300, 1000), kind, exif=exif, quality=95))
    size = (130, 100) if orientation < 5 else (100, 130)
    exactly = file.pixels(size).astype(int)
    monkeypatch.setattr("pipelines.picture_files.LARGE", 1000 * 1000)
    monkeypatch.setattr("pipelines.picture_files.BAND", 40 * 1300)
    difference = np.abs(file.pixels(size) - exactly)
    assert difference.mean() < (2 if kind == "JPEG" else 0.5)
    assert np.abs(difference[:, :, 0]).max() < 16, "the smooth channel, at the edges of bands too"


def test_a_png_that_says_its_orientation_last_is_seen_upright_without_being_decoded() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(scene(40, 24))
    tag = exif.tobytes().removeprefix(b"Exif\0\0")
    late = data[:-12] + png((b"eXIf", tag), (b"IEND", b""))[8:]
    file = PictureFile(late)
    assert file.size == (24, 40)
    np.testing.assert_array_equal(file.pixels(), np.rot90(PictureFile(data).pixels(), -1))


PEAK = """
import sys
from pathlib import Path
from pipelines.picture_files import PictureFile

def peak():  # ru_maxrss would begin with that of the process that started this one
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024

data = sys.stdin.buffer.read()
PictureFile(Path(sys.argv[1]).read_bytes()).pixels()
before = peak()
pixels = PictureFile(data).pixels((1024, 1024))
assert pixels.shape == (1024, 1024, 3)
print(peak() - before)
"""


def blank_png(side: int, depth: int, colour: int, channels: int) -> bytes:
    """A picture of nothing, in a few kilobytes whatever its size."""
    row = b"\0" * (1 + side * channels * depth // 8)
    packer = zlib.compressobj(9)
    rows = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    head = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    return png((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process its peak")
@pytest.mark.parametrize(
    ("kind", "most"), [("grey", 240), ("transparent", 340), ("JPEG", 100), ("progressive JPEG", 280)]
)
def test_a_picture_of_64_megapixels_takes_little_more_than_its_decoder(
    kind: str, most: int, tmp_path: Path
) -> None:
    if kind == "grey":
        data = blank_png(8192, 16, 0, 1)
    elif kind == "transparent":
        data = blank_png(8192, 8, 6, 4)
    else:
        data = saved(Image.new("RGB", (8192, 8192), RED), "JPEG", progressive=kind != "JPEG")
    (tmp_path / "small.png").write_bytes(saved(scene(64, 64)))
    command = [sys.executable, "-c", PEAK, str(tmp_path / "small.png")]
    done = subprocess.run(command, input=data, capture_output=True, timeout=300, check=True)
    assert int(done.stdout) < most, f"{int(done.stdout)} MiB for a file of {len(data)} bytes"


def test_a_webp_whose_decoder_would_need_a_gigabyte_is_refused_by_its_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert MAX_WEBP_PIXELS == 32 * 1024**2
    monkeypatch.setattr("pipelines.picture_files.MAX_WEBP_PIXELS", 1024**2)
    assert PictureFile(saved(scene(1024, 1024), "WEBP")).size == (1024, 1024)
    assert PictureFile(saved(scene(1024, 1025), "PNG")).size == (1024, 1025)
    with pytest.raises(PictureError, match="1024 x 1025; at most 1 megapixels"):
        PictureFile(saved(scene(1024, 1025), "WEBP"))


def test_a_jpeg_that_goes_over_its_picture_again_and_again_is_refused() -> None:
    data = saved(scene(64, 64), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    scan = data[start:-2]
    assert PictureFile(data[:-2] + scan * 50 + data[-2:]).size == (64, 64)
    with pytest.raises(PictureError, match="more than the 100 scans"):
        PictureFile(data[:-2] + scan * 200 + data[-2:])


def test_what_stands_after_a_photo_is_not_counted() -> None:
    """Phones append a few seconds of film."""
    photo = saved(scene(64, 64), "JPEG")
    assert PictureFile(photo + b"\xff\xda\0\2" * 1000).size == (64, 64)


@pytest.mark.parametrize("start", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\0\x02"])
def test_a_header_of_millions_of_parts_is_refused_before_they_are_read(
    start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk = png((b"tEXt", b"a\0b"))[8:] if b"PNG" in start else b"\0"
    monkeypatch.setattr("pipelines.picture_files.MOST_READS", 1000)
    with pytest.raises(PictureError, match="far too many parts"):
        PictureFile((start + png(header(8, 8))[8:] if b"PNG" in start else start) + chunk * 10_000)
