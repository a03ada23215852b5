"""Models in GGUF files, from a path and from a folder: found, described, loaded."""

import json
import os
from array import array
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from tokenizers import Tokenizer

from models.language.load import load
from runner.api.ollama.models import details
from runner.errors import ModelNotFound, ModelNotSupported
from runner.inspect.capabilities import chat_template, text_capabilities
from runner.inspect.detect import check_runnable, detect
from runner.inspect.memory import estimate_memory, is_quantized
from runner.library import installed
from runner.library.removal import plan_removal
from runner.sources import ModelMode, find
from tests.gguf_files import header, stored, write_gguf
from tests.toys import toy_text
from tests.toys.gguf import FAMILIES, toy_gguf

HARD = (
    "Hello world", "  two  spaces\n\n\nand\ttabs ", "12345 3.14", "don't DON'T we'll", "", " ", "日本語 🌊🏄‍♀️ é é",
    "مرحبا שלום नमस्ते", "def f(x):\r\n\treturn x ** 2", "<|im_start|>user\nhi<|im_end|>", "[INST] a [/INST]</s>b",
    "<start_of_turn>user\n<end_of_turn>", "ﬁ ½ ①", "a" * 300, "\u00a0\u2003x", "<think>no</think>",
)  # fmt: skip
PROMPT = mx.array([[300 + 7 * n % 60 for n in range(23)]])


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "store"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def logits(name: str | Path, **options: Any) -> np.ndarray:
    loaded = load(find(str(name)).fetch(ModelMode.TEXT), **options)
    return np.array(loaded.model(PROMPT).astype(mx.float32))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_says_what_the_folder_says_that_it_was_made_of(tmp_path: Path, family: str) -> None:
    expected = logits(toy_text(family))
    found = logits(toy_gguf(tmp_path / "x.gguf", family), float32=True)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_its_tokenizer_and_its_template_are_those_of_the_folder(tmp_path: Path, family: str) -> None:
    files = find(str(toy_gguf(tmp_path / "x.gguf", family)))
    made = Tokenizer.from_file(str(files.fetch(ModelMode.TEXT).folder / "tokenizer.json"))
    original = Tokenizer.from_file(str(toy_text(family) / "tokenizer.json"))
    for text in HARD:
        ids = original.encode(text).ids
        assert made.encode(text).ids == ids, text
        assert made.decode(ids) == original.decode(ids)
        assert made.decode(ids, skip_special_tokens=False) == original.decode(ids, skip_special_tokens=False)
    assert chat_template(files) == chat_template(find(str(toy_text(family))))
    assert text_capabilities(files) == text_capabilities(find(str(toy_text(family))))


def test_the_ends_of_a_text_are_those_of_the_folder(tmp_path: Path) -> None:
    for family in FAMILIES:
        loaded = load(find(str(toy_gguf(tmp_path / f"{family}.gguf", family))).fetch(ModelMode.TEXT))
        ends = json.loads((toy_text(family) / "generation_config.json").read_text())["eos_token_id"]
        assert set(ends) <= loaded.stop_tokens


@pytest.mark.parametrize(("kind", "dtype"), [("F32", "float16"), ("F16", "float16"), ("BF16", "bfloat16")])
def test_weights_are_held_in_half_precision_and_in_float32_if_asked(
    tmp_path: Path, kind: str, dtype: str
) -> None:
    path = toy_gguf(tmp_path / "x.gguf", kind=kind)
    loaded = load(find(str(path)).fetch(ModelMode.TEXT))
    assert {
        str(value.dtype) for value in loaded.model.model.layers[0].mlp.parameters()["down_proj"].values()
    } == {f"mlx.core.{dtype}"}
    wide, half = logits(path, float32=True), logits(path)
    assert 0 < np.abs(wide - half).max() / np.abs(wide).max() < 0.1


def quantized(path: Path) -> Path:
    """A toy whose matrices are Q8_0, and in one layer Q4_0."""
    return rewritten(toy_gguf(path.with_suffix(".f32")), path)


def rewritten(source: Path, path: Path) -> Path:
    """A file in F32 with its matrices in blocks."""
    from models.checkpoint.gguf.header import read_gguf_header

    read = read_gguf_header(source)
    raw = source.read_bytes()
    tensors = {}
    for name, tensor in read.tensors.items():
        values = np.frombuffer(raw, "<f4", int(np.prod(tensor.shape)), tensor.start).reshape(tensor.shape)
        tensors[name] = (
            stored(values) if values.ndim == 1 else in_blocks(values, 4 if "blk.1." in name else 8)
        )
    metadata = {
        key: value.tolist() if isinstance(value, array) else value for key, value in read.metadata.items()
    }
    return write_gguf(path, metadata, tensors)


def in_blocks(values: np.ndarray, bits: int) -> tuple[str, tuple[int, ...], bytes]:
    """Q8_0 or Q4_0, rounded to the nearest step."""
    groups = values.reshape(-1, 32)
    scales = (np.abs(groups).max(-1, keepdims=True) / (127 if bits == 8 else 7)).astype("<f2")
    codes = np.rint(groups / np.maximum(scales.astype(np.float32), 1e-8))
    if bits == 8:
        body = codes.astype(np.int8).view(np.uint8)
    else:
        unsigned = np.clip(codes + 8, 0, 15).astype(np.uint8)
        body = unsigned[:, :16] | (unsigned[:, 16:] << 4)
    raw = np.concatenate([scales.view(np.uint8), body], axis=-1)
    return f"Q{bits}_0", values.shape, raw.tobytes()


def test_a_quantized_file_is_told_as_one_and_its_sizes_are_those_that_are_loaded(tmp_path: Path) -> None:
    files = find(str(quantized(tmp_path / "x.gguf")))
    detection = detect(files)
    assert detection.supported
    assert (detection.mode, detection.type, detection.source) == (ModelMode.TEXT, "llama", "folder")
    assert detection.quantization == "8-bit (groups of 32), 4-bit (groups of 32) (declared: Q4_0, Q8_0)"
    assert detection.parameters == detect(find(str(toy_text("llama")))).parameters
    assert is_quantized(files, ModelMode.TEXT)
    loaded = load(files.fetch(ModelMode.TEXT))
    from mlx.utils import tree_flatten

    held = sum(value.nbytes for _, value in tree_flatten(loaded.model.parameters()))
    assert detection.bytes == held == estimate_memory(files).weights
    unpacked = estimate_memory(files, unpacked=True)
    assert unpacked.weights == 4 * (detection.parameters or 0)


def test_packed_and_unpacked_weights_say_the_same(tmp_path: Path) -> None:
    path = quantized(tmp_path / "x.gguf")
    local = find(str(path)).fetch(ModelMode.TEXT)
    plain, packed = load(local, float32=True, room=2**30), load(local, float32=True, room=0)
    assert "computed in float32" in plain.notes[0]
    assert "stay packed" in packed.warnings[0]
    expected, found = (np.array(model.model(PROMPT)) for model in (plain, packed))
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5
    assert np.abs(expected - logits(toy_text("llama"))).max() / np.abs(expected).max() < 0.5


def split(path: Path, folder: Path) -> list[Path]:
    """A file as llama.cpp splits it: the metadata first, then the tensors in two parts."""
    from models.checkpoint.gguf.header import read_gguf_header

    read, raw = read_gguf_header(path), path.read_bytes()
    metadata = {
        key: value.tolist() if isinstance(value, array) else value for key, value in read.metadata.items()
    }
    names = list(read.tensors)
    parts = [[], names[: len(names) // 2], names[len(names) // 2 :]]
    paths = []
    for number, part in enumerate(parts):
        tensors = {
            name: ("F32", tensor.shape, raw[tensor.start : tensor.start + tensor.nbytes])
            for name, tensor in read.tensors.items()
            if name in part
        }
        own = {"split.no": (2, number), "split.count": (2, 3), "split.tensors.count": (5, len(names))}
        paths.append(
            write_gguf(
                folder / f"toy-{number + 1:05d}-of-00003.gguf", own if number else metadata | own, tensors
            )
        )
    return paths


def test_a_split_model_is_found_by_any_of_its_parts_and_by_its_folder(tmp_path: Path) -> None:
    whole = toy_gguf(tmp_path / "x.gguf")
    paths = split(whole, tmp_path / "parts")
    expected = logits(whole)
    for name in (*paths, tmp_path / "parts"):
        np.testing.assert_array_equal(logits(name), expected)
    paths[1].unlink()
    for name in (paths[0], tmp_path / "parts"):
        with pytest.raises(ModelNotSupported, match="part 2 of 3"):
            find(str(name))


def test_parts_of_different_models_are_refused(tmp_path: Path) -> None:
    paths = split(toy_gguf(tmp_path / "x.gguf"), tmp_path / "parts")
    paths[2].write_bytes(paths[1].read_bytes())
    with pytest.raises(ModelNotSupported, match=r"numbered \[0, 1, 1\]"):
        detect(str(paths[0]))


def test_of_several_files_in_a_folder_one_has_to_be_named(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    for name in ("toy.Q8_0.gguf", "toy.F16.gguf"):
        toy_gguf(folder / name)
    write_gguf(folder / "mmproj-toy.gguf", {"general.architecture": "clip"}, {})
    with pytest.raises(ModelNotSupported, match=r"toy\.F16\.gguf, toy\.Q8_0\.gguf"):
        find(str(folder))
    (folder / "toy.F16.gguf").unlink()
    assert detect(str(folder)).supported


def test_a_folder_with_a_checkpoint_is_that_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    for file in toy_text("qwen3").iterdir():
        (folder / file.name).symlink_to(file)
    toy_gguf(folder / "toy.gguf")
    assert detect(str(folder)).type == "qwen3"


def test_a_client_names_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        find(str(toy_gguf(tmp_path / "x.gguf")), folders=False)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "architecture": ({"general.architecture": "mamba"}, "its architecture is 'mamba'.*these do: llama, mistral3, qwen2"),
    "no architecture": ({"general.architecture": None}, "general.architecture is missing"),
    "no width": ({"llama.embedding_length": None}, "llama.embedding_length is missing"),
    "width of text": ({"llama.embedding_length": "x"}, "llama.embedding_length is 'x'; a whole number"),
    "no layers": ({"llama.block_count": 0}, "llama.block_count is '0'; 1 or more"),
    "widths that differ": ({"llama.feed_forward_length": [1, 2]}, "the same for every layer"),
    "heads of two sizes": ({"llama.attention.value_length": 16, "llama.attention.key_length": 32}, "another size"),
    "scaling": ({"llama.rope.scaling.type": "odd", "llama.rope.scaling.factor": 2.0}, "none, linear or yarn"),
    "tokenizer": ({"tokenizer.ggml.model": "rwkv"}, "tokenizer.ggml.model is 'rwkv'; gpt2, llama, bert, t5 can be read"),
    "no tokenizer": ({"tokenizer.ggml.model": None}, "it has none"),
    "splitting": ({"tokenizer.ggml.pre": "mystery"}, "tokenizer.ggml.pre is 'mystery'; known are llama-bpe"),
    "no splitting": ({"tokenizer.ggml.pre": None}, "tokenizer.ggml.pre is missing"),
    "no tokens": ({"tokenizer.ggml.tokens": None}, "no tokenizer.ggml.tokens"),
    "too few types": ({"tokenizer.ggml.token_type": [1]}, "not a list of 640 numbers"),
    "end that is not a token": ({"tokenizer.ggml.eos_token_id": 9999}, "eos_token_id is 9999"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_is_refused_before_anything_is_loaded(tmp_path: Path, case: str) -> None:
    changes, message = REFUSED[case]
    path = toy_gguf(tmp_path / "x.gguf", **changes)
    with pytest.raises(ModelNotSupported, match=message):
        check_runnable(find(str(path)))


def test_broken_merges_are_refused_when_the_model_is_fetched(tmp_path: Path) -> None:
    path = toy_gguf(tmp_path / "x.gguf", **{"tokenizer.ggml.merges": ["no pair here"]})
    with pytest.raises(ModelNotSupported, match="merges has 'no pair here'"):
        find(str(path)).fetch(ModelMode.TEXT)


def test_tensors_of_another_network_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    write_gguf(path, {"general.architecture": "llama"}, {"enc.patch_embd.weight": stored([1.0])})
    with pytest.raises(ModelNotSupported, match=r"a llama network does not have: enc\.patch_embd\.weight"):
        detect(str(path))


def test_damaged_files_and_pipes_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("hello")
    (tmp_path / "cut.gguf").write_bytes(toy_gguf(tmp_path / "x.gguf").read_bytes()[:5000])
    (tmp_path / "empty.gguf").write_bytes(header({}, {}))
    for name in ("text", "cut", "empty"):
        with pytest.raises(ModelNotSupported, match=rf"{name}\.gguf"):
            detect(str(tmp_path / f"{name}.gguf"))
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelNotSupported, match="is a file"):
        find(str(tmp_path / "pipe.gguf"))


def test_the_files_that_are_made_are_made_once(tmp_path: Path) -> None:
    path = toy_gguf(tmp_path / "x.gguf")
    folders = {find(str(path)).fetch(ModelMode.TEXT).folder for _ in range(2)}
    assert len(folders) == 1
    other = toy_gguf(tmp_path / "y.gguf", **{"general.name": "other"})
    assert find(str(other)).fetch(ModelMode.TEXT).folder not in folders


def test_a_file_with_an_alias_is_listed_and_never_removed(tmp_path: Path) -> None:
    path = toy_gguf(tmp_path / "x.gguf")
    broken = toy_gguf(tmp_path / "y.gguf", **{"general.architecture": "mamba"})
    listed = {model.aliases: model for model in installed({"mine": str(path), "odd": str(broken)}).models}
    model = listed[("mine",)]
    assert (model.name, model.type, model.fault) == (str(path), "llama", None)
    assert model.bytes > path.stat().st_size
    assert "'mamba'" in str(listed[("odd",)].fault)
    assert details(model)["format"] == "gguf"
    with pytest.raises(ModelNotSupported, match="never removes"):
        plan_removal(str(path))
