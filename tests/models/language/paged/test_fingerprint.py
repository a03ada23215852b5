"""Keys and values are never taken for those of another model, other settings or another version."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from models.files import LocalModel, Shard
from models.language.paged import fingerprint as module
from models.language.paged.fingerprint import fingerprint

SIZE = 4_000_000


@pytest.fixture
def local(tmp_path: Path) -> LocalModel:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(os.urandom(1000) * (SIZE // 1000))
        os.utime(tmp_path / name, (1e9, 1e9))
    shards = tuple(Shard(tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    return LocalModel("model", tmp_path, lambda component: shards)


def rewrite(path: Path, place: int, content: bytes) -> None:
    """With the same size and time as before."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)
    os.utime(path, (1e9, 1e9))


CHANGES: dict[str, Callable[[Path], object]] = {
    "the configuration": lambda folder: (folder / "config.json").write_text("{}"),
    "a size": lambda folder: rewrite(folder / "b.safetensors", SIZE, b"more"),
    "a time": lambda folder: os.utime(folder / "b.safetensors", (1e9, 1e9 + 1)),
    "a header": lambda folder: rewrite(folder / "a.safetensors", 100, b"other names"),
    "most of the weights": lambda folder: rewrite(folder / "a.safetensors", 2_000_000, os.urandom(2_000_000)),
}


def test_it_is_the_same_for_the_same_model(local: LocalModel) -> None:
    assert fingerprint(local, ["float32"]) == fingerprint(local, ["float32"])


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_models_files_changes_it(local: LocalModel, change: str) -> None:
    before = fingerprint(local, [])
    CHANGES[change](local.folder)
    assert fingerprint(local, []) != before


def test_settings_and_versions_change_it(local: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(local, ["4 bits"])
    assert fingerprint(local, ["8 bits"]) != before
    monkeypatch.setattr(module.metadata, "version", lambda package: "99")
    assert fingerprint(local, ["4 bits"]) != before
