"""What the Ollama store holds: an entry for each manifest."""

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from runner.errors import ModelNotSupported
from runner.library.hub import modified
from runner.library.installed import Installed, described
from runner.sources.base import shorten
from runner.sources.ollama import OllamaFiles
from runner.sources.ollama_store import Manifest, OllamaName, parse_ollama_name, read_manifest, store_root

# More of them, or of anything in one folder, means that the folder is something else.
MOST_MANIFESTS = 10_000


def ollama_models(warnings: list[str]) -> Iterator[Installed]:
    """Every manifest in the store."""
    for path in manifests(warnings):
        name = name_of(path)
        if name is None:
            warnings.append(f"{shorten(path, 300)} has a path that no model's manifest has")
        else:
            yield _model(name, path)


def manifests(warnings: list[str]) -> Iterator[Path]:
    """The files where manifests belong: manifests/host/namespace/model/tag. Links are not followed."""
    paths = _walk(store_root() / "manifests", 3, warnings)
    yield from islice(paths, MOST_MANIFESTS)
    if next(paths, None) is not None:
        warnings.append(f"{store_root()} has more than {MOST_MANIFESTS:,} manifests; the rest are left out")


def _walk(place: Path, depth: int, warnings: list[str]) -> Iterator[Path]:
    """What lies so many folders down, by name."""
    for entry in _entries(place, warnings):
        if entry.is_symlink() and (entry.is_dir() or depth > 0):
            warnings.append(f"{shorten(entry.path, 300)} is a link, which is not followed")
        elif depth == 0 and not entry.is_dir():
            yield Path(entry.path)
        elif depth > 0 and entry.is_dir():
            yield from _walk(Path(entry.path), depth - 1, warnings)


def name_of(path: Path) -> OllamaName | None:
    """The name whose manifest lies there."""
    host, namespace, model, tag = path.parts[-4:]
    return parse_ollama_name(f"{host}/{namespace}/{model}:{tag}")


def _entries(place: Path, warnings: list[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            return sorted(islice(entries, MOST_MANIFESTS), key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        warnings.append(f"{shorten(place, 300)} cannot be read: {error.strerror or error}")
        return []


def _model(name: OllamaName, path: Path) -> Installed:
    model = Installed(str(name), "ollama", 0, modified(path))
    try:
        manifest = read_manifest(name)
        if manifest is None:
            return replace(model, fault=f"its manifest {path} is not a file")
        model = replace(model, bytes=_bytes(manifest), digest=manifest.digest)
        return described(model, OllamaFiles(name, manifest))
    except ModelNotSupported as error:
        return replace(model, fault=error.message)


def _bytes(manifest: Manifest) -> int:
    """What its blobs take on the disk; several layers may mean the same one."""
    return sum(_size(path) for path in {layer.path for layer in manifest.layers})


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # a blob that is missing is the fault that the model is shown with
