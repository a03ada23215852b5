"""One manifest out of the Ollama store, and the blobs that no other manifest needs."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.errors import DiptychError, ModelNotSupported
from runner.library.installed import Installed
from runner.library.ollama import manifests
from runner.library.removal import Removal
from runner.paths import cache_folder
from runner.sources.base import parse_object, shorten
from runner.sources.ollama_store import manifest_path, parse_ollama_name, read_manifest_file, store_root

# Older manifests wrote a dash.
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")


def plan_ollama(model: Installed) -> Removal:
    """What goes: the manifest, and of its blobs those that stand in no other manifest."""
    name = parse_ollama_name(model.name)
    assert name is not None
    own, notes = manifest_path(name), list[str]()
    blobs = _own_blobs(own, notes) if own.is_file() else []

    def run() -> None:
        try:
            own.unlink()
            for blob in blobs:
                blob.unlink(missing_ok=True)
        except OSError as error:
            shown = error.filename or model.name
            raise DiptychError(f"{shown} cannot be removed: {error.strerror or error}") from error
        if model.digest:
            shutil.rmtree(cache_folder() / "ollama" / model.digest, ignore_errors=True)
        _drop_empty(own.parent)

    return Removal(model, sum(blob.stat().st_size for blob in blobs), run, notes=tuple(notes))


def _own_blobs(own: Path, notes: list[str]) -> list[Path]:
    """The blobs that the manifest alone needs. When another cannot be read, nobody knows what it needs: all stay."""
    try:
        mine = _digests(own)
        for path in manifests(notes):
            if path != own:
                mine -= _digests(path)
    except ModelNotSupported as error:
        notes.append(f"its blobs stay, since it is not known who needs them: {error.message}")
        return []
    if notes:
        return []
    blobs = store_root() / "blobs"
    paths = (blobs / f"sha256{mark}{digest}" for digest in sorted(mine) for mark in "-:")
    return [path for path in paths if path.is_file()]


def _digests(path: Path) -> set[str]:
    """Every digest that a manifest names, in whatever place."""
    shown = shorten(path, 300)
    strings = _strings(parse_object(read_manifest_file(path, shown), shown))
    return {match[1] for text in strings for match in _DIGEST.finditer(text)}


def _strings(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict | list):
            waiting += item.values() if isinstance(item, dict) else item


def _drop_empty(folder: Path) -> None:
    """The folders of the name that nothing is in any more."""
    root = store_root() / "manifests"
    with contextlib.suppress(OSError):
        while folder != root and folder.is_relative_to(root):
            folder.rmdir()
            folder = folder.parent
