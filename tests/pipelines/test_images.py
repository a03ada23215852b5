"""Pictures as clients send them, good and bad, against what the reference's image processors make of them."""

import base64
import contextlib
import io
import struct
import zlib
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.images import (
    PictureError,
    decode,
    drawn_size,
    from_base64,
    to_bytes,
    to_reference,
    to_start,
)

RED, WHITE = (255, 0, 0), (255, 255, 255)


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
    found = upright.getpixel((4 if not x else upright.width - 5, 4 if not y else upright.height - 5))
    assert np.abs(np.subtract(found, RED)).max() < 40


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
    found = decode(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")).getpixel((4, 4))
    assert np.abs(np.subtract(found, RED)).max() < 10


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


def test_a_reference_is_cut_to_the_multiple_around_its_centre() -> None:
    picture = scene(150, 100)
    wanted = np.asarray(picture)[2:98, 3:147].astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(to_reference(picture), wanted[None], atol=1e-6)


def test_a_large_reference_is_reduced_to_a_megapixel() -> None:
    assert to_reference(Image.new("RGB", (3000, 2000))).shape == (1, 832, 1248, 3)
    assert drawn_size(3000, 2000) == (1248, 832)


@pytest.mark.parametrize(("size", "said"), [((63, 200), "64 pixels"), ((900, 100), "8 to 1")])
def test_a_reference_of_a_bad_shape_is_an_error(size: tuple[int, int], said: str) -> None:
    with pytest.raises(PictureError, match=said):
        to_reference(Image.new("RGB", size))


def test_a_tiny_picture_still_gives_a_size() -> None:
    assert drawn_size(3, 40) == (16, 32)


def test_the_start_is_stretched_to_what_is_drawn() -> None:
    start = to_start(Image.new("RGB", (50, 20), RED), 32, 48)
    assert start.shape == (1, 48, 32, 3)
    assert start.dtype == np.float32
    assert start[0, 5, 5].tolist() == [1.0, -1.0, -1.0]


def test_decoded_values_become_bytes_and_are_held_within_bounds() -> None:
    decoded = mx.array([[[-1.0, 0.0, 1.0], [-3.0, 0.5, 2.0]]])
    assert to_bytes(decoded).tolist() == [[[0, 128, 255], [0, 191, 255]]]
    assert to_bytes(decoded.astype(mx.bfloat16)).dtype == mx.uint8


@pytest.mark.reference
@pytest.mark.parametrize("size", [(64, 64), (150, 100), (1100, 1300), (2999, 401), (1024, 1024)])
def test_pictures_are_prepared_as_the_references_do(size: tuple[int, int]) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from diffusers.image_processor import VaeImageProcessor
    from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor

    picture = scene(*size)
    processor = Flux2ImageProcessor(vae_scale_factor=16)
    processor.check_image_input(picture)
    reduced = processor._resize_if_exceeds_area(picture)
    width, height = (side // 16 * 16 for side in reduced.size)
    theirs = processor.preprocess(reduced, height=height, width=width, resize_mode="crop")
    np.testing.assert_allclose(to_reference(picture), theirs.permute(0, 2, 3, 1).numpy(), atol=1e-6)
    assert drawn_size(*size) == (width, height)
    theirs = VaeImageProcessor(vae_scale_factor=16).preprocess(picture, height=144, width=272)
    np.testing.assert_allclose(to_start(picture, 272, 144), theirs.permute(0, 2, 3, 1).numpy(), atol=1e-6)


@pytest.mark.reference
def test_decoded_values_become_the_references_bytes() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from diffusers.image_processor import VaeImageProcessor

    decoded = np.random.default_rng(1).normal(0, 0.7, (1, 33, 31, 3)).astype(np.float32)
    theirs = VaeImageProcessor().postprocess(torch.from_numpy(decoded).permute(0, 3, 1, 2))[0]
    np.testing.assert_array_equal(np.array(to_bytes(mx.array(decoded)))[0], np.asarray(theirs))
