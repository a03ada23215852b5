"""The Ollama store: an entry for each manifest; copying and removing one."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from models.files import read_regular
from runner.errors import BadRequest, DiptychError, ModelNotFound, ModelNotSupported
from runner.library.hub import modified
from runner.library.installed import Installed, Removal, described
from runner.paths import cache_folder
from runner.sources.base import JSON_LIMIT, parse_object, shorten
from runner.sources.name import ModelName, OllamaName, parse_ollama_name
from runner.sources.ollama import open_ollama
from runner.sources.ollama_store import (
    Manifest,
    in_store,
    manifest_path,
    read_manifest,
    read_manifest_file,
    store_root,
)

# Of the store, and of entries read per folder.
MAX_MANIFESTS = 10_000
# Older manifests wrote a dash.
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")


def ollama_models(warnings: list[str]) -> Iterator[Installed]:
    """All models in the store."""
    for path in manifests(warnings):
        name = name_of(path)
        if name is None:
            warnings.append(f"{shorten(path, 300)} does not have the path of a manifest")
        else:
            yield _model(name, path)


def manifests(warnings: list[str]) -> Iterator[Path]:
    """The manifests: manifests/host/namespace/model/tag. Links are not followed."""
    paths = _walk(store_root() / "manifests", 3, warnings)
    yield from islice(paths, MAX_MANIFESTS)
    if next(paths, None) is not None:
        warnings.append(f"{store_root()} has more than {MAX_MANIFESTS:,} manifests; the rest are left out")


def _walk(place: Path, depth: int, warnings: list[str]) -> Iterator[Path]:
    """The files at this depth of folders, by name."""
    for entry in _entries(place, warnings):
        if entry.is_symlink() and (entry.is_dir() or depth > 0):
            warnings.append(f"{shorten(entry.path, 300)} is a link, which is not followed")
        elif depth == 0 and not entry.is_dir():
            yield Path(entry.path)
        elif depth > 0 and entry.is_dir():
            yield from _walk(Path(entry.path), depth - 1, warnings)


def name_of(path: Path) -> OllamaName | None:
    """The name of the model with this manifest."""
    host, namespace, model, tag = path.parts[-4:]
    return parse_ollama_name(f"{host}/{namespace}/{model}:{tag}")


def ollama_name(name: OllamaName) -> str:
    """The name under which all commands find it."""
    return str(ModelName.shortest("ollama", str(name)))


def _entries(place: Path, warnings: list[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            return sorted(islice(entries, MAX_MANIFESTS), key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        warnings.append(f"{shorten(place, 300)} cannot be read: {error.strerror or error}")
        return []


def _model(name: OllamaName, path: Path) -> Installed:
    model = Installed(ollama_name(name), "ollama", 0, modified(path))
    try:
        manifest = read_manifest(name)
        if manifest is None:
            return replace(model, fault=f"its manifest {path} is not a file")
        model = replace(model, bytes=_bytes(manifest), digest=manifest.digest)
        return described(model, open_ollama(name, manifest))
    except ModelNotSupported as error:
        return replace(model, fault=error.message)


def _bytes(manifest: Manifest) -> int:
    """The size of its blobs on disk; several layers may share one."""
    return sum(_size(path) for path in {layer.path for layer in manifest.layers})


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # a missing blob is reported as the model's fault


def copy_manifest(source: OllamaName, destination: OllamaName) -> None:
    """Replaces nothing: raises BadRequest if the name already belongs to another model."""
    target = manifest_path(destination)
    try:
        content = read_regular(in_store(manifest_path(source)), JSON_LIMIT)
    except OSError as error:
        raise ModelNotFound(f"no model {source} in the Ollama store: {error.strerror or error}") from error
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        exists = os.path.lexists(target)
        if exists and read_regular(in_store(target), JSON_LIMIT) != content:
            raise BadRequest(f"{destination} exists and is another model; delete it first")
        if not exists:
            _write_new(target, content)
    except OSError as error:
        path = error.filename or target
        raise DiptychError(f"{path} cannot be written: {error.strerror or error}") from error


def _write_new(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        try:
            file.write(content)
            file.flush()
        except BaseException:
            path.unlink()
            raise


def plan_ollama(model: Installed) -> Removal:
    """Removes the manifest, and those of its blobs that are not in any other manifest."""
    name = ModelName.parse(model.name).ollama
    assert name is not None
    own, notes = manifest_path(name), list[str]()
    blobs = _own_blobs(own, notes) if own.is_file() else []

    def run() -> None:
        try:
            own.unlink()
            for blob in blobs:
                blob.unlink(missing_ok=True)
        except OSError as error:
            path = error.filename or model.name
            raise DiptychError(f"{path} cannot be removed: {error.strerror or error}") from error
        if model.digest:
            shutil.rmtree(cache_folder() / "ollama" / model.digest, ignore_errors=True)
        _drop_empty(own.parent)

    return Removal(model, sum(blob.stat().st_size for blob in blobs), run, notes=tuple(notes))


def _own_blobs(own: Path, notes: list[str]) -> list[Path]:
    """The blobs that only this manifest needs. None when another manifest cannot be read, which may need them."""
    try:
        mine = _digests(own)
        for path in manifests(notes):
            if path != own:
                mine -= _digests(path)
    except ModelNotSupported as error:
        notes.append(f"its blobs are kept, because other models may need them: {error.message}")
        return []
    if notes:
        return []
    blobs = store_root() / "blobs"
    paths = (blobs / f"sha256{mark}{digest}" for digest in sorted(mine) for mark in "-:")
    return [path for path in paths if path.is_file()]


def _digests(path: Path) -> set[str]:
    """All digests in a manifest, in any field."""
    label = shorten(path, 300)
    strings = _strings(parse_object(read_manifest_file(path, label), label))
    return {match[1] for text in strings for match in _DIGEST.finditer(text)}


def _strings(value: Any) -> Iterator[str]:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict | list):
            pending += item.values() if isinstance(item, dict) else item


def _drop_empty(folder: Path) -> None:
    """Remove the empty folders of the name."""
    root = store_root() / "manifests"
    with contextlib.suppress(OSError):
        while folder != root and folder.is_relative_to(root):
            folder.rmdir()
            folder = folder.parent
