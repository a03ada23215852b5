"""Ollama's store on disk: manifests and blobs. Its content is checked before paths are built from it."""

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
PROJECTOR = "application/vnd.ollama.image.projector"
ADAPTER = "application/vnd.ollama.image.adapter"
TEMPLATE = "application/vnd.ollama.image.template"
PARAMS = "application/vnd.ollama.image.params"
SYSTEM = "application/vnd.ollama.image.system"
MESSAGES = "application/vnd.ollama.image.messages"
LICENSE = "application/vnd.ollama.image.license"

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MEDIA_TYPE = re.compile(r"[\w.+/-]{1,127}")


def store_root() -> Path:
    """OLLAMA_MODELS, as Ollama reads it, or ~/.ollama/models."""
    path = os.environ.get("OLLAMA_MODELS", "").strip().strip("\"'").strip()
    return Path(path) if path else Path(os.path.expanduser("~/.ollama/models"))


@dataclass(frozen=True)
class Layer:
    """One blob of a model, and the name it has in it ("" for a template, a licence)."""

    media_type: str
    digest: str
    name: str
    path: Path
    size: int | None = None  # as in the manifest


@dataclass(frozen=True)
class Manifest:
    """The layers of a model; `digest` identifies the list."""

    digest: str
    layers: tuple[Layer, ...]

    def of_type(self, media_type: str) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.media_type == media_type)


def manifest_path(name: OllamaName) -> Path:
    return store_root() / "manifests" / name.host / name.namespace / name.model / name.tag


def in_store(path: Path) -> Path:
    """The file at a path in the store; raises OSError when it is not a regular file or lies elsewhere.

    The store may be a link, and so may its folders of manifests and of blobs, but nothing inside these may lead out.
    """
    folder = store_root() / path.relative_to(store_root()).parts[0]
    real = resolve_inside(path, folder.resolve(), "the Ollama store")
    check_regular(real)
    return real


def read_manifest_file(path: Path, label: str) -> bytes:
    """The bytes of a manifest; raises ModelNotSupported unless it is a regular file in the store and of a sane size."""
    try:
        return read_regular(in_store(path), JSON_LIMIT)
    except OSError as error:
        raise ModelNotSupported(f"{label} cannot be read: {error.strerror or error}") from error


def read_manifest(name: OllamaName) -> Manifest | None:
    """The manifest of a name; None when the store has none. Raises ModelNotSupported for a broken one."""
    path = manifest_path(name)
    if not os.path.lexists(path) or path.is_dir():
        return None
    label = f"the manifest of {name} in the Ollama store ({path})"
    raw = read_manifest_file(path, label)
    content = parse_object(raw, label)
    if content.get("schemaVersion") != 2:
        raise ModelNotSupported(
            f"{label} has schemaVersion {shorten(content.get('schemaVersion'))}; 2 can be read"
        )
    layers = content.get("layers")
    if not isinstance(layers, list):
        raise ModelNotSupported(f"{label} has no list of layers")
    blobs = store_root() / "blobs"
    return Manifest(hashlib.sha256(raw).hexdigest(), tuple(_layer(layer, blobs, label) for layer in layers))


def _layer(entry: Any, blobs: Path, label: str) -> Layer:
    fields = entry if isinstance(entry, dict) else {}
    media_type, digest, name = fields.get("mediaType"), fields.get("digest"), fields.get("name", "")
    if not isinstance(media_type, str) or not isinstance(digest, str) or not isinstance(name, str):
        raise ModelNotSupported(f"{label} has a layer without mediaType and digest: {shorten(entry)}")
    if not DIGEST.fullmatch(digest):
        raise ModelNotSupported(
            f"{label} has a layer with the digest {shorten(digest)}; sha256:<64 hex digits> is needed"
        )
    if media_type in (TENSOR, JSON) and not is_plain_path(name):
        raise ModelNotSupported(
            f"{label} has a layer named {shorten(name)}, which is not a path inside a model"
        )
    size = fields.get("size")
    if size is not None and (type(size) is not int or size < 0):
        raise ModelNotSupported(
            f"{label} has a layer with the size {shorten(size)}; a number of bytes is needed"
        )
    return Layer(
        media_type if _MEDIA_TYPE.fullmatch(media_type) else "",
        digest,
        name,
        blobs / digest.replace(":", "-"),
        size,
    )
