"""GGUF models in Ollama's store, which hold nearly all that people have there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.language.load import load
from runner.api.ollama.models import describe
from runner.errors import ModelNotSupported
from runner.inspect.capabilities import chat_template
from runner.inspect.detect import check_runnable, detect
from runner.library import installed
from runner.sources import ModelMode, find
from runner.sources.ollama_model import OllamaModel
from tests.gguf_files import write_gguf
from tests.runner.ollama_store import layer, manifest
from tests.runner.sources.test_gguf import logits
from tests.toys.gguf import toy_gguf

NAME = "registry.ollama.ai/library/toy/8b"
CHATML = (
    "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "store"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "store"


def add(store: Path, family: str = "llama", beside: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A model in the store, with layers of its Modelfile; the file that it was made of."""
    path = toy_gguf(store.parent / f"{family}.gguf", family, **changes)
    layers = [layer(store, "model", "", path.read_bytes())]
    for kind, content in (beside or {}).items():
        layers.append(layer(store, kind, "", content.encode() if isinstance(content, str) else content))
    manifest(store, NAME, layers)
    return path


def test_a_model_of_the_store_says_what_its_file_says(store: Path) -> None:
    path = add(store)
    np.testing.assert_array_equal(logits("toy:8b"), logits(path))
    np.testing.assert_array_equal(logits("ollama:toy:8b"), logits(path))


def test_its_modelfile_is_read(store: Path) -> None:
    beside = {"params": {"stop": ["<end>"], "temperature": 0.5}, "system": "Be brief.", "license": "MIT"}
    path = add(store, beside=beside)
    files = find("toy:8b")
    assert isinstance(files, OllamaModel)
    assert files.parameters() == beside["params"]
    assert (files.system(), files.license()) == ("Be brief.", "MIT")
    (model,) = installed().models
    assert (model.name, model.source, model.type, model.fault) == ("toy:8b", "ollama", "llama", None)
    shown = describe(model, "toy:8b")
    assert (shown["details"]["format"], shown["details"]["quantization_level"]) == ("gguf", "F32")
    assert shown["system"] == "Be brief."
    assert shown["model_info"]["llama.block_count"] == 3
    assert "completion" in shown["capabilities"]
    assert detect(files).parameters == detect(str(path)).parameters


def test_its_template_is_the_gguf_s_own_and_else_ollama_s(store: Path) -> None:
    beside = {"template": CHATML}
    path = add(store, beside=beside)
    assert chat_template(find("toy:8b")) == chat_template(find(str(path)))
    add(store, beside=beside, **{"tokenizer.chat_template": None})
    loaded = load(find("toy:8b").fetch(ModelMode.TEXT))
    assert "<|im_start|>" in (loaded.folder / "chat_template.gotmpl").read_text()
    tokenizer = loaded.tokenizer
    chat = [{"role": "user", "content": "Hi"}]
    shown = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert shown.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    add(store, beside={"template": "### {{ .Prompt }}"}, **{"tokenizer.chat_template": None})
    assert chat_template(find("toy:8b")) == "### {{ .Prompt }}"


def test_a_damaged_projector_is_refused(store: Path) -> None:
    add(store, beside={"projector": b"GGUF"})
    with pytest.raises(ModelNotSupported, match="cut short or damaged"):
        check_runnable(find("toy:8b"))


def adapter(path: Path, layer: str = "attn_q", outputs: int = 128, **changes: Any) -> bytes:
    """For the toy llama."""
    entries = {
        "general.type": "adapter",
        "adapter.type": "lora",
        "general.architecture": "llama",
        "adapter.lora.alpha": 4.0,
    }
    chance = np.random.default_rng(0)
    tensors = {}
    for letter, shape in (("a", (2, 64)), ("b", (outputs, 2))):
        matrix = chance.standard_normal(shape).astype(np.float32)
        tensors[f"blk.0.{layer}.weight.lora_{letter}"] = ("F32", shape, matrix.tobytes())
    return write_gguf(path, {**entries, **changes}, tensors).read_bytes()


def test_an_adapter_of_a_modelfile_is_beside_the_weights(store: Path, tmp_path: Path) -> None:
    path = add(store, beside={"adapter": adapter(tmp_path / "a.gguf")})
    files = find("toy:8b")
    assert check_runnable(files).mode is ModelMode.TEXT
    assert len(detect(files).adapters) == 1
    assert "# with a LoRA" in describe(installed().models[0], "toy:8b")["modelfile"]
    loaded = load(files.fetch(ModelMode.TEXT), float32=True)
    assert any("LoRA" in note for note in loaded.notes)
    assert not np.allclose(logits("toy:8b"), logits(path), atol=1e-3)
    for changes, message in (
        ({"outputs": 64}, "which is [128, 64]"),
        ({"layer": "attn_x"}, "layers that the model does not have"),
        ({"general.architecture": "qwen3"}, "its adapter is for qwen3, and the model is llama"),
    ):
        add(store, beside={"adapter": adapter(tmp_path / "b.gguf", **changes)})
        assert message in str(installed().models[0].fault)
    add(store, beside={"adapter": b"ggla"})
    assert "the adapter" in str(installed().models[0].fault)


def test_an_incomplete_or_unknown_model_is_listed_with_its_reason(store: Path) -> None:
    add(store, **{"general.architecture": "t5encoder"})
    assert "its architecture is 't5encoder'" in str(installed().models[0].fault)
    add(store)
    blobs = sorted((store / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    blobs[-1].write_bytes(blobs[-1].read_bytes()[:-100])
    blobs[-2].write_bytes(blobs[-2].read_bytes()[:-100])
    assert "pull it again with `ollama pull toy:8b`" in str(installed().models[0].fault)
