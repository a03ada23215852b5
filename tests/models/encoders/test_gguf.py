"""Encoders in GGUF files: the vectors of the checkpoints that they were made from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.encoders.embedder import EncoderEmbedder
from models.encoders.load import EncoderModel, load
from runner.errors import ModelNotSupported
from runner.inspect.capabilities import text_capabilities
from runner.inspect.detect import check_runnable, detect
from runner.library import installed
from runner.sources import ModelMode, find
from tests.models.encoders.checkpoints import REFERENCES, local, words, write
from tests.models.encoders.gguf_files import convert, rounded
from tests.runner.ollama_store import layer, manifest

pytest.importorskip("gguf")
pytestmark = pytest.mark.weights
TEXTS = ("abc cab", "", "Zebra [MASK] x", "ab " * 12)
# What the format has no field for.
ACTIVATIONS = {"bert": "gelu", "nomic_bert": "silu"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))


def checkpoint(name: str, folder: Path) -> Path:
    """A stored one, with the settings that the format has no field for; the heads of a NomicBERT divide its width in it."""
    case = json.loads((REFERENCES / "encoders.json").read_text())[name]
    shapes = {key: tuple(shape) for key, shape in case["shapes"].items()}
    for key in shapes:
        if key.endswith("attn.Wqkv.weight"):
            shapes[key] = (96, 32)
        if key.endswith("attn.out_proj.weight"):
            shapes[key] = (32, 32)
    config = {**case["config"], "hidden_act": ACTIVATIONS[name], "head_dim": None}
    return words(write(folder, config, shapes))


def loaded(path: Path | str) -> EncoderModel:
    files = find(str(path))
    check_runnable(files)
    return load(files.fetch(ModelMode.TEXT), float32=True)


def vectors(model: EncoderModel) -> NDArray[np.float32]:
    embedder = EncoderEmbedder(model)
    return embedder.embed([embedder.tokens(text) for text in TEXTS])


@pytest.mark.parametrize("name", ["bert", "nomic_bert"])
@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_0"])
def test_vectors_are_those_of_the_checkpoint(name: str, kind: str, tmp_path: Path) -> None:
    folder = checkpoint(name, tmp_path / "folder")
    path = convert(folder, tmp_path / "x.gguf", kind)
    original, model = load(local(rounded(folder, kind))), loaded(path)
    np.testing.assert_allclose(vectors(model), vectors(original), atol=1e-5)
    for text in TEXTS:
        assert model.tokenizer.encode(text) == original.tokenizer.encode(text)
    halves = vectors(load(find(str(path)).fetch(ModelMode.TEXT)))
    assert ((halves * vectors(original)).sum(axis=1) > 0.999).all()
    detection = detect(str(path))
    assert (detection.supported, detection.type, detection.context_length) == (True, name, 40)
    assert text_capabilities(find(str(path))) == ["embedding"]


@pytest.mark.parametrize(
    ("pooling", "mode"), [(None, "mean"), (0, "mean"), (1, "mean"), (2, "cls"), (3, "lasttoken")]
)
def test_pooling_is_the_file_s(pooling: int | None, mode: str, tmp_path: Path) -> None:
    folder = checkpoint("bert", tmp_path / "folder")
    model = loaded(convert(folder, tmp_path / "x.gguf", pooling=pooling))
    states = np.array(model.network(np.array([model.tokenizer.encode(TEXTS[0])], np.int32)))[0]
    expected = {"mean": states.mean(axis=0), "cls": states[0], "lasttoken": states[-1]}[mode]
    np.testing.assert_allclose(vectors(model)[0], expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pooling": 4}, "a reranker .its pooling_type is 4. without cls.weight, cls.bias"),
        ({"pooling": 9}, "its pooling_type is 9; 0, 1, 2, 3 are supported"),
        ({"attention.causal": True, "pooling": 1}, "its attention is causal"),
    ],
)
def test_what_cannot_be_computed_is_refused(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    folder = checkpoint("bert", tmp_path / "folder")
    with pytest.raises(ModelNotSupported, match=reason):
        check_runnable(find(str(convert(folder, tmp_path / "x.gguf", **changes))))


def test_an_embedder_in_the_ollama_store_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "store"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    folder = checkpoint("nomic_bert", tmp_path / "folder")
    path = convert(folder, tmp_path / "x.gguf")
    manifest(
        tmp_path / "store",
        "registry.ollama.ai/library/embeds/latest",
        [layer(tmp_path / "store", "model", "", path.read_bytes())],
    )
    (model,) = installed().models
    assert (model.type, model.fault) == ("nomic_bert", None)
    np.testing.assert_allclose(vectors(loaded(model.name)), vectors(load(local(folder))), atol=1e-5)
