"""The same model from a folder, the hub and Ollama's store is the same model."""

from pathlib import Path

import mlx.core as mx
import pytest

from models.language.load import load
from runner.sources import ModelMode, find
from tests.hub_server import HubServer
from tests.runner.ollama_store import layer, manifest
from tests.toys import toy_text


@pytest.mark.parametrize("options", [{}, {"bits": 4}])
def test_a_language_model_says_the_same_wherever_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, int]
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "store"))
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    folder = toy_text("qwen3", **options)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    put_into_store(tmp_path / "store", folder, files)
    with HubServer() as hub:
        hub.add("toys/qwen3", files)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        logits = {name: said(name) for name in (str(folder), "hf:toys/qwen3", "x/toy:1b")}
    first, *others = logits.values()
    assert all(mx.array_equal(first, other) for other in others)


def said(name: str) -> mx.array:
    language = load(find(name).fetch(ModelMode.TEXT))
    return language.model(mx.array([[3, 1, 4, 1, 5]]))


def put_into_store(root: Path, folder: Path, files: dict[str, bytes]) -> None:
    """As Ollama imports a checkpoint: a blob a tensor, a quantized layer's parts together."""
    layers = [layer(root, "json", name, content) for name, content in files.items() if name.endswith(".json")]
    tensors = mx.load(str(folder / "model.safetensors"))
    for name in [name for name in tensors if not name.endswith((".scales", ".biases"))]:
        base = name.removesuffix(".weight")
        parts = {name: tensors[name]}
        if f"{base}.scales" in tensors:
            parts |= {f"{name}.scale": tensors[f"{base}.scales"], f"{name}.bias": tensors[f"{base}.biases"]}
        mx.save_safetensors(str(root / "one"), parts)
        layers.append(layer(root, "tensor", name, (root / "one.safetensors").read_bytes()))
    manifest(root, "registry.ollama.ai/x/toy/1b", layers)
