"""Models in folders."""

import os
from pathlib import Path

import pytest

from models.files import Shard
from runner.errors import ModelNotFound, ModelNotSupported
from runner.sources import ModelMode, TensorInfo, find
from runner.sources.required_files import required_files
from tests.runner.checkpoints import WEIGHTS, image_files, safetensors, text_files, write


def names(folder: Path, component: str) -> list[str]:
    return [shard.path.name for shard in find(str(folder)).fetch(ModelMode.TEXT).shards(component)]


def test_a_folder_is_found_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "toy", text_files())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (str(tmp_path / "toy"), "toy", "./toy", "folder:toy", "~/toy", "toy/", "toy/../toy"):
        files = find(name)
        assert (files.source, files.name) == ("folder", name.removeprefix("folder:"))
        assert files.listing()["chat_template.jinja"] == 14


def test_a_folder_wins_over_the_hub_name_that_it_looks_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "owner" / "name", text_files())
    monkeypatch.chdir(tmp_path)
    assert find("owner/name").source == "folder"


def test_folders_are_left_out_when_the_name_comes_from_a_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "toy", text_files())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "store"))
    for name in ("toy", str(tmp_path / "toy"), "folder:toy", "./toy"):
        with pytest.raises(ModelNotFound):
            find(name, folders=False)


@pytest.mark.parametrize(
    "name", ["", " ", "a\0b", "a\nb", "x" * 10_000, "/" + "x" * 5000, "folder:", "./nothing"]
)
def test_a_name_that_can_be_nothing_is_not_found(name: str) -> None:
    with pytest.raises(ModelNotFound) as raised:
        find(name)
    assert len(raised.value.message) < 600


def test_a_file_is_no_model(tmp_path: Path) -> None:
    write(tmp_path, {"model.bin": b"words"})
    with pytest.raises(ModelNotSupported, match="is a file; a model is a folder"):
        find(str(tmp_path / "model.bin"))


def test_a_folder_that_may_not_be_listed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:  # root may list anything, so the refusal is made
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ModelNotSupported, match="cannot be read: Permission denied"):
        find(str(tmp_path)).listing()


def test_hidden_files_are_no_part_of_a_model(tmp_path: Path) -> None:
    write(tmp_path, text_files() | {".git/config": b"x", ".DS_Store": b"x", "._model.safetensors": b"x"})
    assert not [path for path in find(str(tmp_path)).listing() if path.startswith(".")]


def test_tensors_are_declared_without_being_loaded(tmp_path: Path) -> None:
    write(tmp_path, text_files())
    assert find(str(tmp_path)).tensors("") == {
        "model.embed_tokens.weight": TensorInfo("BF16", (16, 8), 0, 256),
        "model.norm.weight": TensorInfo("BF16", (8,), 256, 272),
    }


def test_a_language_model_needs_configs_tokenizer_and_weights_and_no_code(tmp_path: Path) -> None:
    write(tmp_path, text_files() | {"onnx/model.safetensors": safetensors(WEIGHTS)})
    assert required_files(find(str(tmp_path)), ModelMode.TEXT) == (
        "chat_template.jinja", "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors",
    )  # fmt: skip


def test_an_embedding_model_needs_the_folders_that_say_how_to_pool(tmp_path: Path) -> None:
    extra = {
        "modules.json": [],
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
        "2_Dense/config.json": {},
        "2_Dense/model.safetensors": safetensors({"linear.weight": ("F32", (8, 8))}),
        "2_Dense/pytorch_model.bin": b"a pickle",
    }
    write(tmp_path, text_files() | extra)
    required = required_files(find(str(tmp_path)), ModelMode.TEXT)
    assert set(extra) - {"2_Dense/pytorch_model.bin"} <= set(required)
    assert "2_Dense/pytorch_model.bin" not in required


def test_a_picture_model_needs_the_components_that_its_index_lists(tmp_path: Path) -> None:
    write(tmp_path, image_files() | {"transformer/weights.bin": b"a pickle", "transformer/model.py": b"code"})
    assert required_files(find(str(tmp_path)), ModelMode.IMAGE) == (
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer.json",
        "transformer/config.json",
        "vae/config.json",
        "text_encoder/model.safetensors",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    )


def test_components_with_hostile_names_are_no_components(tmp_path: Path) -> None:
    index = {"_class_name": "X", "../up": ["a", "b"], "/etc": ["a", "b"], "a/b": ["a", "b"], "": ["a", "b"]}
    write(tmp_path, image_files() | {"model_index.json": index | {"vae": ["a", "b"]}})
    required = required_files(find(str(tmp_path)), ModelMode.IMAGE)
    assert required == ("model_index.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors")


def test_an_index_says_which_shards_there_are(tmp_path: Path) -> None:
    index = {
        "weight_map": {"b": "model-2.safetensors", "a": "model-1.safetensors", "c": "model-2.safetensors"}
    }
    shard = safetensors({"x": ("F32", (1,))})
    extra = {
        "model.safetensors.index.json": index,
        "model-1.safetensors": shard,
        "model-2.safetensors": shard,
    }
    write(tmp_path, text_files() | extra)
    model = find(str(tmp_path)).fetch(ModelMode.TEXT)
    assert model.folder == tmp_path
    assert model.shards("") == (
        Shard(tmp_path / "model-1.safetensors"),
        Shard(tmp_path / "model-2.safetensors"),
    )


@pytest.mark.parametrize(
    "named", ["model-9.safetensors", "../model.safetensors", "/etc/passwd", "x/y.safetensors"]
)
def test_a_shard_that_the_index_names_and_that_is_missing_is_an_error(tmp_path: Path, named: str) -> None:
    write(tmp_path, text_files() | {"model.safetensors.index.json": {"weight_map": {"a": named}}})
    with pytest.raises(
        ModelNotSupported, match=r"model\.safetensors\.index\.json .*lists files that are missing"
    ) as e:
        find(str(tmp_path)).fetch(ModelMode.TEXT)
    assert named in e.value.message


@pytest.mark.parametrize(
    "index", [{}, {"weight_map": []}, {"weight_map": {"a": 1}}, {"weight_map": {"a": None}}]
)
def test_an_index_of_another_form_is_an_error(tmp_path: Path, index: object) -> None:
    write(tmp_path, text_files() | {"model.safetensors.index.json": index})
    with pytest.raises(ModelNotSupported, match="weight_map must map"):
        names(tmp_path, "")


def test_numbered_shards_are_all_needed_even_without_an_index(tmp_path: Path) -> None:
    files = text_files()
    del files["model.safetensors"]
    shard = safetensors(WEIGHTS)
    write(tmp_path, files | {f"model-0000{n}-of-00003.safetensors": shard for n in (1, 3)})
    with pytest.raises(ModelNotSupported, match="part 2 of 3 is missing"):
        names(tmp_path, "")


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["model.safetensors", "consolidated.safetensors"], ["model.safetensors"]),
        (["model.fp16.safetensors", "model.safetensors"], ["model.safetensors"]),
        (["model.fp16.safetensors"], ["model.fp16.safetensors"]),
        (["model-00001-of-00001.safetensors"], ["model-00001-of-00001.safetensors"]),
        (["weights.00.safetensors"], ["weights.00.safetensors"]),
        (["a.safetensors", "b.safetensors"], ["a.safetensors", "b.safetensors"]),
        (["a.fp16.safetensors", "a.safetensors", "b.safetensors"], ["a.safetensors", "b.safetensors"]),
        (
            [
                "model.fp16-00001-of-00002.safetensors",
                "model.fp16-00002-of-00002.safetensors",
                "model.safetensors",
            ],
            ["model.safetensors"],
        ),
    ],
)
def test_one_copy_of_the_weights_is_taken(tmp_path: Path, there: list[str], taken: list[str]) -> None:
    files = text_files()
    del files["model.safetensors"]
    write(tmp_path, files | {name: safetensors(WEIGHTS) for name in there})
    assert names(tmp_path, "") == taken


def test_pickles_alone_are_refused_with_the_reason(tmp_path: Path) -> None:
    files = text_files()
    del files["model.safetensors"]
    write(tmp_path, files)
    with pytest.raises(ModelNotSupported, match=r"pytorch_model\.bin, which can carry code"):
        find(str(tmp_path)).fetch(ModelMode.TEXT)


def test_a_model_without_weights_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"config.json": {"model_type": "qwen3"}})
    with pytest.raises(ModelNotSupported, match="has no weights"):
        find(str(tmp_path)).fetch(ModelMode.TEXT)
