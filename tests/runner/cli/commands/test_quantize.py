"""`diptych quantize`: a copy that is smaller, loads at once, and makes nearly the same picture or text."""

import json
import math
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from models.checkpoint.safetensors import read_header
from models.files import LocalModel
from models.language.load import load
from pipelines.base import ImageRequest, Picture, Pixels
from pipelines.flux2 import Flux2Klein
from runner.sources import ModelMode, find
from tests.pipelines import toys, wide
from tests.runner.cli.commands.run import Diptych
from tests.runner.sources.test_gguf import logits, quantized
from tests.toys import toy_text


@pytest.fixture(scope="module")
def klein(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = wide.write(tmp_path_factory.mktemp("wide") / "toy").folder
    (folder / "LICENSE.md").write_text("be kind")
    return folder


def picture(model: LocalModel) -> Pixels:
    request = ImageRequest("a boat", seed=4, width=64, height=64)
    (image,) = [event for event in Flux2Klein.load(model).generate(request) if isinstance(event, Picture)]
    return image.pixels


def psnr(one: Pixels, other: Pixels) -> float:
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return 10 * math.log10(255**2 / max(float(error), 1e-9))


@pytest.mark.parametrize(("bits", "least"), [("8", 30), ("4", 10), ("mxfp8", 15), ("nvfp4", 8)])
def test_a_picture_models_copy_is_smaller_and_draws_nearly_the_same(
    diptych: Diptych, klein: Path, tmp_path: Path, bits: str, least: float
) -> None:
    done = diptych("quantize", str(klein), "copy", "--bits", bits)
    assert done.code == 0, done.err
    assert done.out.startswith("copy  ")
    copy = tmp_path / "copy"
    for part in ("transformer", "text_encoder"):
        (before,), (after,) = ((root / part).glob("*.safetensors") for root in (klein, copy))
        assert before.name == after.name
        assert after.stat().st_size < 0.7 * before.stat().st_size
        assert json.loads((copy / part / "config.json").read_text())["quantization"]["mode"]
    (vae,) = (copy / "vae").glob("*.safetensors")
    assert not any(name.endswith(".scales") for name in read_header(vae).tensors)
    assert (copy / "LICENSE.md").read_text() == "be kind"
    assert diptych("detect", "copy").code == 0
    drawn = picture(find(str(copy)).fetch(ModelMode.IMAGE))
    assert psnr(drawn, picture(find(str(klein)).fetch(ModelMode.IMAGE))) >= least


def test_a_language_models_copy_writes(diptych: Diptych, tmp_path: Path) -> None:
    source = toy_text()
    done = diptych("quantize", str(source), "copy", "--bits", "8")
    assert done.code == 0, done.err
    assert done.out.count("\n") == 1, "nothing but the result"
    model = load(find(str(tmp_path / "copy")).fetch(ModelMode.TEXT))
    assert model.config["quantization"]["bits"] == 8
    assert model.tokenizer.encode("hello")
    logits = model.model(mx.array([[1, 2, 3]]))
    plain = load(find(str(source)).fetch(ModelMode.TEXT)).model(mx.array([[1, 2, 3]]))
    close = mx.linalg.norm(logits - plain) / mx.linalg.norm(plain)
    assert close.item() < 0.1
    once_more = diptych("quantize", str(source), "six", "--bits", "6", "--json").json
    assert (once_more["path"], once_more["bytes"] < once_more["model_bytes"]) == ("six", True)
    again = diptych("quantize", "copy", "more", "--bits", "4")
    assert again.code == 1
    assert "already quantized" in again.err


def test_nothing_is_left_where_it_cannot_be_done(diptych: Diptych, tmp_path: Path) -> None:
    narrow = toys.write("klein", tmp_path / "narrow").folder
    done = diptych("quantize", str(narrow), "copy", "--bits", "4")
    assert done.code == 1
    assert "no layer whose inputs divide into groups of 64" in done.err
    broken = wide.write(tmp_path / "broken").folder
    next((broken / "transformer").glob("*.safetensors")).write_bytes(b"torn")
    assert diptych("quantize", str(broken), "copy", "--bits", "4").code == 1
    assert sorted(
        path.name for path in tmp_path.iterdir() if path.name not in ("home", "config", "made")
    ) == [
        "broken",
        "narrow",
    ]


def test_a_folder_that_is_there_is_never_written_into(diptych: Diptych, klein: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    done = diptych("quantize", str(klein), "copy", "--bits", "4")
    assert done.code == 1
    assert "already exists; choose a new folder" in done.err
    assert diptych("quantize", str(klein), "nowhere/copy", "--bits", "4").code == 1
    assert diptych("quantize", str(klein), "copy2", "--bits", "7").code == 2


def test_a_gguf_becomes_a_folder_and_layers_with_few_bits_stay_as_they_are(
    diptych: Diptych, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    source = quantized(tmp_path / "x.gguf")
    for bits in ("8", "4"):
        done = diptych("quantize", str(source), str(tmp_path / bits), "--bits", bits)
        assert done.code == 0, done.err
    expected = logits(source)
    np.testing.assert_allclose(logits(tmp_path / "8"), expected, atol=np.abs(expected).max() * 0.05)
    tensors = read_header(tmp_path / "4" / "model.safetensors").tensors
    sizes = {
        layer: tensors[f"model.layers.{layer}.mlp.up_proj.weight"].shape[-1] * 32 // 64 for layer in (0, 1)
    }
    assert sizes == {0: 4, 1: 4}
    assert tensors["model.layers.1.mlp.up_proj.scales"].shape[-1] == 2, "groups of 32, as in the file"
    assert tensors["model.layers.0.mlp.up_proj.scales"].shape[-1] == 1, "groups of 64, as asked for"
    assert np.isfinite(logits(tmp_path / "4")).all()
    assert find(str(tmp_path / "4")).read_json("tokenizer.json")
