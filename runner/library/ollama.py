"""What the Ollama store holds: an entry for each manifest."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from runner.errors import ModelNotSupported
from runner.library.hub import folders, modified
from runner.library.installed import Installed, described
from runner.sources.base import shorten
from runner.sources.ollama import OllamaFiles
from runner.sources.ollama_store import Manifest, OllamaName, parse_ollama_name, read_manifest, store_root


def ollama_models(warnings: list[str]) -> Iterator[Installed]:
    """Every manifest in the store."""
    for path in manifests(warnings):
        name = name_of(path)
        if name is None:
            warnings.append(f"{shorten(path, 300)} has a path that no model's manifest has")
        else:
            yield _model(name, path)


def manifests(warnings: list[str]) -> Iterator[Path]:
    """The files where manifests belong: manifests/host/namespace/model/tag."""
    for host in folders(store_root() / "manifests", warnings):
        for namespace in folders(host, warnings):
            for model in folders(namespace, warnings):
                yield from _files(model, warnings)


def name_of(path: Path) -> OllamaName | None:
    """The name whose manifest lies there."""
    host, namespace, model, tag = path.parts[-4:]
    return parse_ollama_name(f"{host}/{namespace}/{model}:{tag}")


def _files(place: Path, warnings: list[str]) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            return sorted(Path(entry.path) for entry in entries if not entry.is_dir())
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
