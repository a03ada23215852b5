"""Stores in which somebody put pipes, devices and links: each is named, and nothing waits or grows for it."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from models.language.load import load
from runner.errors import ModelNotFound, ModelNotSupported
from runner.inspect.mode import detect_model_mode
from runner.library.ollama import copy_manifest, ollama_models, plan_ollama
from runner.library.scan import installed
from runner.sources import ModelMode, find
from runner.sources.hub import cached_snapshot
from runner.sources.name import ModelName, parse_hub_name, parse_ollama_name
from runner.sources.ollama import OllamaFiles, find_ollama
from runner.sources.ollama_store import store_root
from tests.runner.hub_cache import add_repo
from tests.runner.ollama_store import layer, manifest, store_model
from tests.toys import toy_text

pytestmark = [
    pytest.mark.usefixtures("machine"),
    pytest.mark.skipif(sys.platform == "win32", reason="it has no such pipes, and links need a privilege"),
]

T = TypeVar("T")
LIBRARY = "registry.ollama.ai/library"
LONGEST = 60.0


def promptly(work: Callable[[], T]) -> T:
    """What the work returns or raises; a failure when it waits for something."""
    results: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LONGEST)
    assert not thread.is_alive(), "it waits for something that never comes"
    if errors:
        raise errors[0]
    return results[0]


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


REPLACED = pytest.mark.parametrize("replace", [pipe, endless])


@pytest.fixture
def toy() -> dict[str, Any]:
    """A language model in the Ollama store; its layers by name, a licence and a system message among them."""
    path = store_model(store_root(), f"{LIBRARY}/toy/latest", toy_text(), license="free", system="Be kind.")
    files = find_ollama(ModelName.parse("toy"))
    assert files is not None
    assert path.is_file()
    return {layer.name or layer.media_type.rpartition(".")[2]: layer for layer in files.manifest.layers}


def ollama(name: str = "toy") -> OllamaFiles:
    files = find_ollama(ModelName.parse(name))
    assert files is not None
    return files


@REPLACED
@pytest.mark.parametrize("name", ["config.json", "weights", "tokenizer.json", "license", "system"])
def test_a_blob_that_is_no_file_is_refused_by_whoever_reads_it(
    toy: dict[str, Any], replace: Callable[[Path], None], name: str
) -> None:
    replace(toy[name].path)
    for read in (
        lambda: ollama().fetch(ModelMode.TEXT),
        lambda: (
            ollama().license(),
            ollama().system(),
            ollama().tensors(""),
            ollama().read_json("tokenizer.json"),
        ),
    ):
        with pytest.raises(ModelNotSupported, match=r"is not a regular file|link out of the Ollama store"):
            promptly(read)


@REPLACED
def test_a_store_with_such_blobs_is_listed_and_the_model_named(
    toy: dict[str, Any], replace: Callable[[Path], None]
) -> None:
    replace(toy["config.json"].path)
    (model,) = promptly(installed).models
    assert model.fault is not None
    assert "config.json" in model.fault


def test_a_licence_cannot_show_a_file_from_elsewhere(toy: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("free")
    toy["license"].path.unlink()
    toy["license"].path.symlink_to(tmp_path / "secret")
    with pytest.raises(ModelNotSupported, match="it is a link out of the Ollama store"):
        ollama().license()


def test_links_within_the_store_and_a_store_behind_links_are_as_good_as_files(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = toy["license"].path
    path.rename(path.parent / "kept")
    path.symlink_to("kept")
    (tmp_path / "disk").mkdir()
    (store_root() / "blobs").rename(tmp_path / "disk" / "blobs")
    (store_root() / "blobs").symlink_to(tmp_path / "disk" / "blobs")
    (tmp_path / "linked").symlink_to(store_root())
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "linked"))
    assert ollama().license() == "free"
    assert ollama().fetch(ModelMode.TEXT).folder.is_dir()
    (model,) = installed().models
    assert model.fault is None


def test_a_manifest_that_is_a_pipe_is_named_and_nothing_waits_for_it(toy: dict[str, Any]) -> None:
    tag = store_root() / "manifests" / LIBRARY / "toy" / "pipe"
    os.mkfifo(tag)
    with pytest.raises(ModelNotSupported, match="is not a regular file"):
        promptly(lambda: find("toy:pipe"))
    faults = {model.name: model.fault for model in promptly(installed).models}
    assert faults["toy:latest"] is None
    assert "is not a regular file" in str(faults["toy:pipe"])


def test_a_manifest_from_outside_the_store_is_not_read(toy: dict[str, Any], tmp_path: Path) -> None:
    tags = store_root() / "manifests" / LIBRARY / "toy"
    outside = tmp_path / "outside"
    (tags / "latest").rename(outside)
    (tags / "latest").symlink_to(outside)
    with pytest.raises(ModelNotSupported, match="link out of the Ollama store"):
        find("toy")
    source, target = parse_ollama_name("toy"), parse_ollama_name("copy")
    assert source is not None
    assert target is not None
    with pytest.raises(ModelNotFound, match="link out of the Ollama store"):
        copy_manifest(source, target)


@pytest.mark.parametrize("level", ["", LIBRARY.split("/")[0], LIBRARY, f"{LIBRARY}/toy"])
def test_a_link_to_everything_among_the_manifests_is_not_followed(toy: dict[str, Any], level: str) -> None:
    link = store_root() / "manifests" / level / "everything"
    link.symlink_to("/")
    warnings: list[str] = []
    models = promptly(lambda: list(ollama_models(warnings)))
    assert [model.name for model in models] == ["toy:latest"]
    assert [f"{str(link)!r} is a link, which is not followed"] == warnings


def test_while_another_manifest_cannot_be_read_no_blob_is_removed(toy: dict[str, Any]) -> None:
    os.mkfifo(store_root() / "manifests" / LIBRARY / "toy" / "pipe")
    model = next(model for model in promptly(installed).models if model.name == "toy:latest")
    removal = promptly(lambda: plan_ollama(model))
    assert removal.bytes == 0
    assert "is not a regular file" in " ".join(removal.notes)


def test_a_layer_larger_than_the_manifest_states_is_refused(toy: dict[str, Any]) -> None:
    entry = layer(store_root(), "json", "config.json", {"model_type": "llama"}) | {"size": 3}
    manifest(store_root(), f"{LIBRARY}/large/latest", [entry])
    with pytest.raises(ModelNotSupported, match=r"has 23 bytes where the manifest says 3"):
        ollama("large").read_json("config.json")


# -- the hub's cache and folders


@pytest.fixture
def snapshot() -> Path:
    return add_repo("owner/name", {file.name: file.read_bytes() for file in toy_text().iterdir()})


@REPLACED
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_of_a_snapshot_that_is_no_file_is_refused(
    snapshot: Path, replace: Callable[[Path], None], name: str
) -> None:
    replace(snapshot / name)
    with pytest.raises(ModelNotSupported, match=r"is not a regular file|link out of the repo's folder"):
        promptly(lambda: (detect_model_mode("owner/name"), find("owner/name").fetch(ModelMode.TEXT)))
    promptly(installed)


def test_a_snapshot_reads_nothing_from_outside_its_repo(snapshot: Path, tmp_path: Path) -> None:
    template = tmp_path / "secret"
    template.write_text("{{ messages }}")
    (snapshot / "chat_template.jinja").unlink(missing_ok=True)
    (snapshot / "chat_template.jinja").symlink_to(template)
    with pytest.raises(
        ModelNotSupported, match=r"chat_template\.jinja .*it is a link out of the repo's folder"
    ):
        find("owner/name").read_text("chat_template.jinja")


def test_a_hub_cache_behind_links_is_as_good(snapshot: Path, tmp_path: Path) -> None:
    repo = snapshot.parent.parent
    repo.rename(tmp_path / "disk")
    repo.symlink_to(tmp_path / "disk")
    assert find("owner/name").fetch(ModelMode.TEXT).shards("")


def test_a_branch_that_is_a_pipe_names_no_commit(snapshot: Path) -> None:
    pipe(snapshot.parent.parent / "refs" / "main")
    hub = parse_hub_name("owner/name")
    assert hub is not None
    assert promptly(lambda: cached_snapshot(hub)) is None


@REPLACED
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_of_a_folder_that_is_no_file_is_refused(
    tmp_path: Path, replace: Callable[[Path], None], name: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in toy_text().iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    replace(folder / name)
    with pytest.raises(ModelNotSupported, match=f"{name}.* is not a regular file"):
        promptly(lambda: (detect_model_mode(str(folder)), find(str(folder)).fetch(ModelMode.TEXT)))


def test_a_pipe_beside_the_weights_is_not_opened(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in toy_text().iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    os.mkfifo(folder / "model.extra.safetensors")
    loaded = promptly(lambda: load(find(str(folder)).fetch(ModelMode.TEXT)))
    assert loaded.vocab > 0
