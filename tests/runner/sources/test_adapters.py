"""Adapters by name: a folder, files that the user gave, hub repos in the cache and on the hub."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import AdapterNotFound, BadRequest, DiptychError
from runner.library.adapters import InstalledAdapter, installed_adapters
from runner.sources.adapters import AdapterSource
from tests.hub_server import HubServer
from tests.runner.checkpoints import safetensors

ADAPTER = safetensors({"lora_unet_double_blocks_0_img_mlp_0.lora_down.weight": ("F32", (1, 4))})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ink", "style/wash", "a.b"):
        path = tmp_path / "loras" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(ADAPTER)
    (tmp_path / "loras" / "notes.txt").write_text("")
    (tmp_path / "secret.safetensors").write_bytes(ADAPTER)
    return tmp_path / "loras"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    for variable in (
        "HF_TOKEN",
        "HF_HUB_OFFLINE",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "TRANSFORMERS_OFFLINE",
    ):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_files_of_the_folder_go_by_their_paths_in_it(folder: Path) -> None:
    source = AdapterSource(str(folder))
    assert sorted(source.listing()) == ["a.b", "ink", "style/wash"]
    assert source.find("style/wash").path == folder / "style" / "wash.safetensors"
    assert source.find("a.b.safetensors").name == "a.b"


def test_files_of_the_user_go_by_their_names(folder: Path, tmp_path: Path) -> None:
    source = AdapterSource(str(folder), [str(tmp_path / "secret.safetensors")])
    assert source.find("secret").path == tmp_path / "secret.safetensors"


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "/etc/passwd",
        "loras/../ink",
        "./ink",
        "~/ink",
        "",
        ".",
        "style\\wash",
        "a//b",
        "ink\0",
        "\ud800",
    ],
)
def test_a_name_is_never_a_path(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(AdapterNotFound, match="loras: there is no adapter"):
        AdapterSource(str(folder)).find(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("inc", "loras: there is no adapter 'inc'; did you mean ink?"),
        ("wash", "did you mean style/wash?"),
        ("zzz", "there are a.b, ink, style/wash"),
    ],
)
def test_an_unknown_name_is_answered_with_those_that_are_alike(name: str, message: str, folder: Path) -> None:
    with pytest.raises(AdapterNotFound) as error:
        AdapterSource(str(folder)).find(name)
    assert message in error.value.message
    assert error.value.status == 404


def test_without_a_folder_it_is_said_where_adapters_come_from() -> None:
    with pytest.raises(AdapterNotFound, match="none are in the folder of adapters"):
        AdapterSource().find("ink")


def test_what_is_no_regular_file_is_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "folder.safetensors").mkdir()
    (folder / "gone.safetensors").symlink_to(folder / "nowhere")
    assert sorted(AdapterSource(str(folder)).listing()) == ["a.b", "ink", "style/wash"]


def test_a_hash_is_the_beginning_of_the_files_sha256(folder: Path) -> None:
    import hashlib

    source = AdapterSource(str(folder))
    path = source.find("ink").path
    assert source.hash(path) == hashlib.sha256(ADAPTER).hexdigest()[:12]
    path.write_bytes(ADAPTER + b" ")
    assert source.hash(path) == hashlib.sha256(ADAPTER + b" ").hexdigest()[:12]


def test_a_repos_only_file_is_chosen_and_downloaded_once(hub: HubServer) -> None:
    hub.add("owner/ink", {"README.md": "ink", "ink.safetensors": ADAPTER})
    source = AdapterSource()
    first = source.find("owner/ink")
    assert first.path.read_bytes() == ADAPTER
    before = len(hub.requests)
    assert source.find("owner/ink").path == first.path.resolve()
    assert len(hub.requests) == before


def test_one_of_several_files_has_to_be_named(hub: HubServer) -> None:
    hub.add("owner/inks", {"v1.safetensors": ADAPTER, "sub/v2.safetensors": ADAPTER + b" "})
    source = AdapterSource()
    with pytest.raises(
        BadRequest,
        match=r"has several files: sub/v2\.safetensors, v1\.safetensors; name one, as in owner/inks:",
    ):
        source.find("owner/inks")
    assert source.find("owner/inks:sub/v2").path.read_bytes() == ADAPTER + b" "
    assert source.find("owner/inks:v1.safetensors").path.read_bytes() == ADAPTER
    with pytest.raises(AdapterNotFound, match=r"has no file 'v3.safetensors'; did you mean"):
        source.find("owner/inks:v3")


def test_the_usual_name_is_chosen_among_several(hub: HubServer) -> None:
    hub.add("owner/ink", {"pytorch_lora_weights.safetensors": ADAPTER, "other.safetensors": b""})
    assert AdapterSource().find("owner/ink").path.name == "pytorch_lora_weights.safetensors"


def test_a_repo_that_does_not_exist_is_an_adapter_that_does_not(hub: HubServer) -> None:
    with pytest.raises(AdapterNotFound, match="loras: "):
        AdapterSource().find("owner/nothing")
    hub.add("owner/text", {"README.md": "ink"})
    with pytest.raises(AdapterNotFound, match=r"'owner/text' has no .safetensors files"):
        AdapterSource().find("owner/text")


@pytest.mark.parametrize("file", ["../../etc/passwd", "/etc/passwd", "a//b"])
def test_a_file_in_a_repo_is_never_a_path_out_of_it(file: str, hub: HubServer) -> None:
    with pytest.raises(DiptychError) as error:
        AdapterSource().find(f"owner/name:{file}")
    assert error.value.status == 404
    assert hub.requests == []


def test_adapters_are_listed_by_name_with_their_models(folder: Path, hub: HubServer) -> None:
    hub.add("owner/ink", {"ink.safetensors": ADAPTER})
    source = AdapterSource(str(folder))
    source.find("owner/ink")
    (folder / "broken.safetensors").write_bytes(b"broken")
    (folder / "model.safetensors").write_bytes(safetensors({"weight": ("F32", (2, 2))}))
    listed = installed_adapters(source)
    assert [adapter.name for adapter in listed] == ["a.b", "broken", "ink", "owner/ink", "style/wash"]
    assert listed[2] == InstalledAdapter("ink", "folder", len(ADAPTER), "FLUX")
    assert listed[3] == InstalledAdapter("owner/ink", "hub", len(ADAPTER), "FLUX")
    assert "is not a safetensors file" in (listed[1].fault or "")
