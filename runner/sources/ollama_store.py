"""Ollama's store on the disk: manifests and blobs. Everything in it is checked before a path is made of it."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.files import check_regular, read_regular
from runner.errors import ModelNotSupported
from runner.sources.base import JSON_LIMIT, is_plain_path, parse_object, resolve_inside, shorten
from runner.sources.name import OllamaName

TENSOR = "application/vnd.ollama.image.tensor"
JSON = "application/vnd.ollama.image.json"
GGUF = "application/vnd.ollama.image.model"
PARAMS = "application/vnd.ollama.image.params"
SYSTEM = "application/vnd.ollama.image.system"
LICENSE = "application/vnd.ollama.image.license"

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MEDIA_TYPE = re.compile(r"[\w.+/-]{1,127}")


def store_root() -> Path:
    """OLLAMA_MODELS, as Ollama reads it, or ~/.ollama/models."""
    stated = os.environ.get("OLLAMA_MODELS", "").strip().strip("\"'").strip()
    return Path(stated) if stated else Path(os.path.expanduser("~/.ollama/models"))


@dataclass(frozen=True)
class Layer:
    """One blob of a model, and the name it has in it ("" for a template, a licence)."""

    media_type: str
    digest: str
    name: str
    path: Path
    size: int | None = None  # as the manifest states it


@dataclass(frozen=True)
class Manifest:
    """What a model is made of; `digest` identifies this list of layers."""

    digest: str
    layers: tuple[Layer, ...]

    def of_type(self, media_type: str) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.media_type == media_type)


def manifest_path(name: OllamaName) -> Path:
    return store_root() / "manifests" / name.host / name.namespace / name.model / name.tag


def in_store(path: Path) -> Path:
    """The file that a path of the store means; an OSError when it is not a regular file or lies elsewhere.

    The store may be a link, and so may its folders of manifests and of blobs: nothing inside these leads out of them.
    """
    folder = store_root() / path.relative_to(store_root()).parts[0]
    real = resolve_inside(path, folder.resolve(), "the Ollama store")
    check_regular(real)
    return real


def read_manifest_file(path: Path, shown: str) -> bytes:
    """The bytes of a manifest, or a ModelNotSupported: what it links to, how large it is and what it is are checked."""
    try:
        return read_regular(in_store(path), JSON_LIMIT)
    except OSError as error:
        raise ModelNotSupported(f"{shown} cannot be read: {error.strerror or error}") from error


def read_manifest(name: OllamaName) -> Manifest | None:
    """The manifest of a name; None when the store has none. A broken one is a ModelNotSupported."""
    path = manifest_path(name)
    if not os.path.lexists(path) or path.is_dir():
        return None
    shown = f"the manifest of {name} in the Ollama store ({path})"
    raw = read_manifest_file(path, shown)
    content = parse_object(raw, shown)
    if content.get("schemaVersion") != 2:
        raise ModelNotSupported(
            f"{shown} has schemaVersion {shorten(content.get('schemaVersion'))}; 2 can be read"
        )
    layers = content.get("layers")
    if not isinstance(layers, list):
        raise ModelNotSupported(f"{shown} has no list of layers")
    blobs = store_root() / "blobs"
    return Manifest(hashlib.sha256(raw).hexdigest(), tuple(_layer(layer, blobs, shown) for layer in layers))


def _layer(entry: Any, blobs: Path, shown: str) -> Layer:
    found = entry if isinstance(entry, dict) else {}
    media_type, digest, name = found.get("mediaType"), found.get("digest"), found.get("name", "")
    if not isinstance(media_type, str) or not isinstance(digest, str) or not isinstance(name, str):
        raise ModelNotSupported(f"{shown} has a layer without mediaType and digest: {shorten(entry)}")
    if not DIGEST.fullmatch(digest):
        raise ModelNotSupported(
            f"{shown} has a layer with the digest {shorten(digest)}; sha256:<64 hex digits> is needed"
        )
    if media_type in (TENSOR, JSON) and not is_plain_path(name):
        raise ModelNotSupported(f"{shown} has a layer named {shorten(name)}, which is no path inside a model")
    size = found.get("size")
    if size is not None and (type(size) is not int or size < 0):
        raise ModelNotSupported(
            f"{shown} has a layer of the size {shorten(size)}; a number of bytes is needed"
        )
    return Layer(
        media_type if _MEDIA_TYPE.fullmatch(media_type) else "",
        digest,
        name,
        blobs / digest.replace(":", "-"),
        size,
    )
