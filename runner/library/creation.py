"""Models of the Ollama store made of others, or of blobs: the same weights with a system message, parameters or messages
of their own."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.checkpoint.gguf.header import read_gguf_header
from models.checkpoint.safetensors import WeightsError
from models.files import read_regular
from runner.errors import BadRequest, DiptychError, ModelNotSupported
from runner.library.blobs import blob_path, put, put_file
from runner.library.installed import Installed, described
from runner.sources import ModelFiles
from runner.sources.base import JSON_LIMIT, is_plain_path, parse_object, shorten
from runner.sources.folder import FolderFiles
from runner.sources.gguf import GGUFFiles
from runner.sources.name import OllamaName
from runner.sources.ollama import open_ollama
from runner.sources.ollama_model import OllamaModel
from runner.sources.ollama_store import (
    ADAPTER,
    GGUF,
    JSON,
    LICENSE,
    MESSAGES,
    PARAMS,
    PROJECTOR,
    SYSTEM,
    TEMPLATE,
    TENSOR,
    Manifest,
    in_store,
    manifest_path,
    read_manifest,
    read_manifest_file,
)
from runner.sources.required_files import TEXTS

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
INDEX = ".safetensors.index.json"

Line = dict[str, Any]
Layer = dict[str, Any]


@dataclass(frozen=True)
class NewModel:
    """`texts`: the layers of a Modelfile by their media types; several are allowed of licenses."""

    name: OllamaName
    base: ModelFiles | None = None
    files: Mapping[str, str] = field(default_factory=dict)  # digests of blobs, by the names of the files
    adapters: Mapping[str, str] = field(default_factory=dict)  # digests too
    texts: Mapping[str, list[str]] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


def create_model(new: NewModel) -> Iterator[Line]:
    """Write the model, and report each step. A model that could not be run is not created."""
    yield {"status": "reading model metadata"}
    layers: list[Layer] = []
    for layer in _weights(new):
        yield {"status": f"using existing layer {layer['digest']}"}
        layers.append(layer)
    layers += _adapters(new, layers)
    for layer in _modelfile(new):
        yield {"status": f"creating new layer {layer['digest']}"}
        layers.append(layer)
    yield {"status": "writing manifest"}
    _write(new.name, {"schemaVersion": 2, "mediaType": MANIFEST, "config": _config(layers), "layers": layers})
    yield {"status": "success"}


def _layer(media_type: str, digest: str, size: int, name: str = "") -> Layer:
    layer = {"mediaType": media_type, "digest": digest, "size": size}
    return layer | ({"name": name} if name else {})


def _weights(new: NewModel) -> Iterator[Layer]:
    """The layers that are not a Modelfile's."""
    base = new.base
    if base is None:
        yield from _of_blobs(new.files)
    elif isinstance(base, OllamaModel):
        texts = (SYSTEM, PARAMS, TEMPLATE, LICENSE, MESSAGES)
        yield from (layer for layer in _layers_of(base) if layer.get("mediaType") not in texts)
    elif isinstance(base, GGUFFiles):
        for path in base.paths:
            yield _layer(GGUF, *put_file(path))
        if base.projector is not None:
            yield _layer(PROJECTOR, *put_file(base.projector))
    elif isinstance(base, FolderFiles):
        for name in base.listing():
            if media_type := _media_type(name):
                yield _layer(media_type, *put_file(base.file(name)), name)
    else:
        raise BadRequest(f"from: {base.place} is not on this machine as a whole; pull it first")


def _adapters(new: NewModel, layers: list[Layer]) -> list[Layer]:
    """Those of the model, in place of its base's."""
    if not new.adapters:
        return []
    layers[:] = [layer for layer in layers if layer["mediaType"] != ADAPTER]
    if not any(layer["mediaType"] == GGUF for layer in layers):
        raise BadRequest(
            "adapters: they go with GGUF models; `diptych runner --lora` takes one for any language model"
        )
    added = []
    for name, digest in new.adapters.items():
        if not name.endswith(".gguf"):
            raise BadRequest(
                f"adapters: {shorten(name)} is not a GGUF; `diptych runner --lora` takes safetensors as well"
            )
        added.append(_layer(ADAPTER, digest, _uploaded("adapters", name, digest).stat().st_size))
    return added


def _uploaded(field: str, name: str, digest: str) -> Path:
    path = blob_path(digest)
    if not path.is_file():
        raise BadRequest(
            f"{field}: the blob {digest} of {shorten(name)} does not exist; POST it to /api/blobs first"
        )
    return path


def _of_blobs(files: Mapping[str, str]) -> Iterator[Layer]:
    for name, digest in files.items():
        if not is_plain_path(name):
            raise BadRequest(f"files: {shorten(name)} is not a path inside a model")
        path = _uploaded("files", name, digest)
        if name.endswith(".gguf"):
            yield _layer(_kind_of_gguf(name, path), digest, path.stat().st_size)
        elif media_type := _media_type(name):
            yield _layer(media_type, digest, path.stat().st_size, name)


def _kind_of_gguf(name: str, path: Path) -> str:
    """Whether it is a model, or what another one sees with."""
    try:
        header = read_gguf_header(path)
    except WeightsError as error:
        raise BadRequest(f"files: {shorten(name)}: {error}") from None
    return PROJECTOR if header.metadata.get("general.architecture") == "clip" else GGUF


def _media_type(name: str) -> str | None:
    """Of a file of a model in the Hugging Face layout; None for a file that is not needed."""
    if name.endswith(".safetensors"):
        return TENSOR
    return JSON if name.endswith(TEXTS) and not name.endswith(INDEX) else None


def _layers_of(base: OllamaModel) -> list[Layer]:
    label = f"the manifest of {base.place}"
    raw = read_manifest_file(manifest_path(base.ollama_name), label)
    layers = parse_object(raw, label).get("layers")
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def _modelfile(new: NewModel) -> Iterator[Layer]:
    """The layers of its Modelfile: its own, and those of its base where it has none of a kind."""
    base = new.base if isinstance(new.base, OllamaModel) else None
    inherited = _layers_of(base) if base else []
    for media_type in (SYSTEM, TEMPLATE, LICENSE, MESSAGES):
        texts = new.texts.get(media_type)
        if texts:
            yield from (_text_layer(media_type, text) for text in texts)
        else:
            yield from (layer for layer in inherited if layer.get("mediaType") == media_type)
    parameters = {**(base.parameters() if base else {}), **new.parameters}
    if parameters:
        yield _text_layer(PARAMS, json.dumps(parameters))


def _text_layer(media_type: str, text: str) -> Layer:
    content = text.encode()
    return _layer(media_type, put(content), len(content))


def _config(layers: list[Layer]) -> Layer:
    """What Ollama itself reads of a model first."""
    gguf = any(layer["mediaType"] == GGUF for layer in layers)
    digests = [layer["digest"] for layer in layers]
    content = {
        "model_format": "gguf" if gguf else "safetensors",
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": digests},
    }
    return _text_layer(CONFIG, json.dumps(content))


def _write(name: OllamaName, content: dict[str, Any]) -> None:
    """The manifest, in place of a former one. If the model cannot be run, the former one is put back."""
    path = manifest_path(name)
    try:
        former = read_regular(in_store(path), JSON_LIMIT) if os.path.lexists(path) else None
        _replace(path, json.dumps(content).encode())
    except OSError as error:
        raise DiptychError(
            f"{error.filename or path} cannot be written: {error.strerror or error}"
        ) from error
    fault = _fault(name)
    if fault is None:
        return
    if former is None:
        path.unlink()
    else:
        _replace(path, former)
    raise ModelNotSupported(f"{name} was not created, because it could not be run: {fault}")


def _fault(name: OllamaName) -> str | None:
    try:
        manifest: Manifest | None = read_manifest(name)
        assert manifest is not None, "it has just been written"
        return described(Installed(str(name), "ollama", 0, 0.0), open_ollama(name, manifest)).fault
    except ModelNotSupported as error:
        return error.message


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=".manifest-")
    with open(handle, "wb") as file:
        file.write(content)
    os.chmod(fresh, 0o644)
    os.replace(fresh, path)
