"""What is on this machine, whatever lies in the stores."""

import json
import os
from pathlib import Path

import pytest

import pipelines
from runner.inspect.mode import ModelMode
from runner.library import Installed, installed, lookup
from runner.library.facts import capabilities
from runner.library.removal import plan_removal
from runner.sources import find
from runner.sources.hub import cache_folder
from runner.sources.ollama_store import store_root
from tests.runner.checkpoints import WEIGHTS, image_files, safetensors, text_files, write
from tests.runner.hub_cache import add_repo
from tests.runner.ollama_store import layer, manifest

NEWER = text_files({"model.embed_tokens.weight": ("BF16", (32, 8))})


@pytest.fixture(autouse=True)
def _machine(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pipelines.PIPELINES, "Flux2KleinPipeline", "pipelines.flux2:Flux2KleinPipeline")


def add_ollama(path: str = "registry.ollama.ai/library/toy/latest") -> Path:
    root = store_root()
    layers = [layer(root, "json", name, text_files()[name]) for name in ("config.json", "tokenizer.json")]
    return manifest(root, path, [*layers, layer(root, "tensor", "model.norm.weight", safetensors(WEIGHTS))])


def models() -> dict[str, Installed]:
    return {model.name: model for model in installed().models}


def test_a_machine_without_stores_has_no_models() -> None:
    assert installed().models == ()
    assert installed().warnings == ()


def test_a_language_model_in_the_hubs_cache_is_listed() -> None:
    snapshot = add_repo("owner/name", text_files())
    (model,) = installed().models
    assert (model.name, model.source, model.mode, model.type) == (
        "owner/name",
        "hub",
        ModelMode.TEXT,
        "qwen3",
    )
    assert model.bytes == sum(file.stat().st_size for file in snapshot.iterdir())
    assert model.digest == snapshot.name
    assert model.modified == snapshot.stat().st_mtime
    assert model.fault is None


def test_a_picture_model_is_listed_by_its_class() -> None:
    add_repo("owner/pictures", image_files())
    (model,) = installed().models
    assert (model.mode, model.type, model.fault) == (ModelMode.IMAGE, "Flux2KleinPipeline", None)


def test_the_cache_is_found_by_the_hubs_own_variable(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(machine / "elsewhere"))
    add_repo("owner/name", text_files())
    assert (machine / "elsewhere" / "models--owner--name").is_dir()
    assert list(models()) == ["owner/name"]


def test_every_commit_is_listed_under_a_name_that_finds_it() -> None:
    older = add_repo("owner/name", text_files(), refs=())
    add_repo("owner/name", NEWER, refs=("main", "v2"))
    add_repo("owner/other", text_files(), refs=("refs/pr/1",))
    assert set(models()) == {"owner/name", f"owner/name@{older.name}", "owner/other@refs/pr/1"}
    for name, model in models().items():
        assert find(name).listing()["model.safetensors"], model


def test_a_download_that_was_cut_is_listed_as_what_pulling_continues() -> None:
    files = text_files()
    del files["model.safetensors"]
    add_repo("owner/name", files, refs=())
    (model,) = installed().models
    assert model.name == "owner/name"
    assert "not complete" in str(model.fault)


def test_a_repo_without_an_owner_is_named_as_it_is_found() -> None:
    add_repo("toy", text_files())
    assert list(models()) == ["hf:toy"]
    assert find("hf:toy").source == "hub"
    assert capabilities(models()["hf:toy"]) == ("completion",)


@pytest.mark.parametrize("word", ["hf", "ollama", "folder"])
def test_a_model_of_the_store_that_is_called_like_a_prefix_is_named_as_it_is_found(word: str) -> None:
    add_ollama(f"registry.ollama.ai/library/{word}/latest")
    (name,) = models()
    assert find(name).place == f"{word}:latest in the Ollama store"
    assert capabilities(models()[name]) == ("completion",)
    plan_removal(name).run()
    assert not models()


def test_an_ollama_model_is_listed_with_its_blobs() -> None:
    path = add_ollama()
    (model,) = installed().models
    assert (model.name, model.source, model.mode, model.type) == (
        "toy:latest",
        "ollama",
        ModelMode.TEXT,
        "qwen3",
    )
    config = len(json.dumps({"model_format": "safetensors"}))
    assert model.bytes == sum(file.stat().st_size for file in (store_root() / "blobs").iterdir()) - config
    assert model.modified == path.stat().st_mtime
    assert len(model.digest) == 64


def test_models_that_cannot_be_run_are_listed_with_the_reason() -> None:
    manifest(store_root(), "registry.ollama.ai/library/gguf/8b", [layer(store_root(), "model", "", b"GGUF")])
    add_repo("owner/strange", text_files() | {"config.json": {"model_type": "no_such"}})
    add_repo("owner/pipeline", image_files("WanPipeline"))
    add_repo("owner/data", {"README.md": b"words"})
    faults = {name: str(model.fault) for name, model in models().items()}
    assert "cut short or damaged" in faults["gguf:8b"]
    assert "no architecture 'no_such'" in faults["owner/strange"]
    assert "no pipeline for 'WanPipeline'" in faults["owner/pipeline"]
    assert "config.json" in faults["owner/data"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schemaVersion": 9}', b"\xff\xfe", b"[" * 100_000])
def test_a_broken_manifest_is_listed_with_its_fault(content: bytes) -> None:
    add_ollama()
    broken = store_root() / "manifests/registry.ollama.ai/library/broken/latest"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(content)
    assert models()["broken:latest"].fault
    assert models()["toy:latest"].fault is None


def test_what_is_no_model_in_the_stores_is_a_warning() -> None:
    add_repo("owner/name", text_files())
    (cache_folder() / "models--..--etc" / "snapshots").mkdir(parents=True)
    (cache_folder() / "models--owner--name" / "snapshots" / "latest").mkdir()
    (cache_folder() / "datasets--owner--name").mkdir()
    (store_root() / "manifests" / "host" / "names pace" / "model").mkdir(parents=True)
    (store_root() / "manifests" / "host" / "names pace" / "model" / "tag").write_text("{}")
    library = installed()
    assert [model.name for model in library.models] == ["owner/name"]
    assert len(library.warnings) == 3


def test_links_in_circles_and_pipes_hold_nobody_up() -> None:
    snapshot = add_repo("owner/name", text_files())
    refs = cache_folder() / "models--owner--name" / "refs"
    (refs / "circle").symlink_to(refs)
    os.mkfifo(refs / "pipe")
    (snapshot / "circle.json").symlink_to(snapshot / "circle.json")
    os.mkfifo(snapshot / "config2.json")
    assert models()["owner/name"].type == "qwen3"


def test_aliases_stand_beside_the_model_that_they_mean(machine: Path) -> None:
    add_repo("owner/name", text_files())
    add_ollama()
    folder = write(machine / "folder", text_files())
    aliases = {
        "small": "owner/name", "same": "hf:owner/name", "toy": "ollama:toy", "mine": str(folder), "gone": "a/b"
    }  # fmt: skip
    by_name = {model.name: model.aliases for model in installed(aliases).models}
    assert by_name == {"owner/name": ("same", "small"), "toy:latest": ("toy",), str(folder): ("mine",)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("owner/name", "owner/name"), ("hf:owner/name", "owner/name"), ("toy", "toy:latest"), ("ollama:toy", "toy:latest"),
     ("toy:latest", "toy:latest"), ("library/toy", "toy:latest"), ("owner/absent", None), ("hf:toy", None), ("", None)],
)  # fmt: skip
def test_a_model_is_looked_up_however_its_name_is_written(name: str, expected: str | None) -> None:
    add_repo("owner/name", text_files())
    add_ollama()
    model = lookup(models(), name)
    assert (model.name if model else None) == expected
