"""Files that go out, and the recipes that come back out of them."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipelines.images import PictureError
from pipelines.packing import pack, read_recipe
from pipelines.picture_files import PictureFile
from pipelines.recipe import Recipe, RecipeError

RECIPE = Recipe(
    prompt='a red circle, "quoted": and\na second line',
    negative_prompt="blurry, Steps: 3",
    width=40,
    height=24,
    steps=4,
    seed=2**40 + 5,
    guidance=3.5,
    strength=0.6,
    model="org/model, v2",
)
NON_LATIN = Recipe(prompt="赤い円 🔴 é", width=40, height=24, steps=1, seed=2**64 - 1)
KINDS = ["png", "jpeg", "webp"]


def noise(height: int = 24, width: int = 40) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_the_lossy_kinds_hold_nearly_the_pixels(kind: str) -> None:
    y, x = np.mgrid[:64, :96].astype(np.uint8)
    pixels = np.stack([x * 2, y * 3, 255 - x], axis=-1)
    data = pack(pixels, kind)
    assert Image.open(io.BytesIO(data)).format == kind.upper()
    assert np.abs(PictureFile(data).pixels().astype(int) - pixels).mean() < 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recipe", [RECIPE, NON_LATIN])
def test_a_recipe_comes_back(kind: str, recipe: Recipe, tmp_path: Path) -> None:
    data = pack(noise(), kind, recipe)
    assert read_recipe(data) == recipe
    (tmp_path / "picture").write_bytes(data)
    assert read_recipe(tmp_path / "picture") == recipe
    assert read_recipe(str(tmp_path / "picture")) == recipe


def test_other_tools_find_the_parameters() -> None:
    actual = Image.open(io.BytesIO(pack(noise(), "png", RECIPE))).info
    assert actual["parameters"] == (
        'a red circle, "quoted": and\na second line\n'
        "Negative prompt: blurry, Steps: 3\n"
        "Steps: 4, Sampler: Euler, CFG scale: 3.5, Seed: 1099511627781, Size: 40x24, "
        'Model: "org/model, v2", Denoising strength: 0.6, Version: Diptych'
    )
    assert json.loads(actual["diptych"])["prompt"] == RECIPE.prompt
    for kind in ("jpeg", "webp"):
        exif = Image.open(io.BytesIO(pack(noise(), kind, NON_LATIN))).getexif()
        comment = exif.get_ifd(0x8769)[0x9286]
        assert comment == b"UNICODE\0" + NON_LATIN.to_parameters().encode("utf-16-be")


def test_a_recipe_too_long_for_a_jpeg_is_left_out_of_it_alone() -> None:
    long = Recipe(prompt="word " * 20_000, width=40, height=24, steps=1, seed=1)
    for kind in ("png", "webp"):
        assert read_recipe(pack(noise(), kind, long)) == long
    data = pack(noise(), "jpeg", long)
    assert PictureFile(data).size == (40, 24)
    with pytest.raises(RecipeError, match="no recipe"):
        read_recipe(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_without_a_recipe_says_so(kind: str) -> None:
    with pytest.raises(RecipeError, match="carries no recipe"):
        read_recipe(pack(noise(), kind))


def test_a_cameras_description_is_no_recipe() -> None:
    exif = Image.Exif()
    exif[0x010E] = "Holiday"
    out = io.BytesIO()
    Image.fromarray(noise()).save(out, "JPEG", exif=exif)
    with pytest.raises(RecipeError, match="carries no recipe"):
        read_recipe(out.getvalue())


def carrying(**texts: str) -> bytes:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    out = io.BytesIO()
    Image.fromarray(noise()).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def test_another_tools_parameters_are_followed() -> None:
    text = (
        "a cat\nNegative prompt: dog\n"
        "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x768, Model hash: 7234, "
        'Model: x, Lora hashes: "a: b, c: d", Version: v1.6'
    )
    assert read_recipe(carrying(parameters=text)) == Recipe(
        prompt="a cat",
        negative_prompt="dog",
        steps=20,
        seed=965400086,
        guidance=7.0,
        width=512,
        height=768,
        model="x",
        model_hash="7234",
    )


GOOD = {"prompt": "x", "width": 16, "height": 16, "steps": 1, "seed": 1}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        "[" * 100_000,
        json.dumps(GOOD | {"steps": "4"}),
        json.dumps(GOOD | {"steps": 0}),
        json.dumps(GOOD | {"steps": 10**30}),
        json.dumps(GOOD | {"width": -16}),
        json.dumps(GOOD | {"seed": 2**64}),
        json.dumps(GOOD | {"seed": 1.5}),
        json.dumps(GOOD | {"guidance": 1e300}),
        json.dumps(GOOD | {"guidance": float("nan")}),
        json.dumps(GOOD | {"strength": 2}),
        json.dumps(GOOD | {"prompt": ["x"]}),
        json.dumps(GOOD | {"prompt": "x" * 300_000}),
        json.dumps({"prompt": "x"}),
    ],
)
def test_a_hostile_recipe_is_an_error(text: str) -> None:
    with pytest.raises(RecipeError):
        read_recipe(carrying(diptych=text))


def test_what_a_later_version_adds_is_ignored() -> None:
    assert read_recipe(carrying(diptych=json.dumps(GOOD | {"later": [1]}))) == Recipe(**GOOD)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just words",
        "a cat\nSteps: many, Seed: 1, Size: 16x16",
        "a cat\nSteps: 4, Seed: 1, Size: wide",
        "a cat\nSteps: 4, Seed: -1, Size: 16x16",
        "a cat\nSteps: 4, Seed: 1, Size: 99999999999x16",
        'Steps: "' + "\\" * 50_000,
        "x:" * 50_000,
    ],
)
def test_hostile_parameters_are_an_error(text: str) -> None:
    with pytest.raises(RecipeError):
        read_recipe(carrying(parameters=text))


def test_a_text_chunk_that_explodes_is_an_error() -> None:
    good = pack(noise())
    bomb = b"zTXt" + b"diptych\0\0" + zlib.compress(b"a" * 10**8)
    chunk = struct.pack(">I", len(bomb) - 4) + bomb + struct.pack(">I", zlib.crc32(bomb))
    with pytest.raises(ValueError, match=r"damaged|no recipe"):
        read_recipe(good[:33] + chunk + good[33:])


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"<svg/>", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_has_no_recipe(data: bytes) -> None:
    with pytest.raises(PictureError):
        read_recipe(data)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_recipe(tmp_path / "nothing.png")


def test_only_known_kinds_and_rgb_bytes_are_packed() -> None:
    with pytest.raises(ValueError, match="'gif'"):
        pack(noise(), "gif")
    with pytest.raises(ValueError, match="float32"):
        pack(np.zeros((4, 4, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[4, 4\]"):
        pack(np.zeros((4, 4), np.uint8))
