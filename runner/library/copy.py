"""A second name for a model of the Ollama store: its manifest once more, while the blobs are shared."""

import os
from pathlib import Path

from models.files import read_regular
from runner.errors import BadRequest, DiptychError, ModelNotFound
from runner.sources.base import JSON_LIMIT
from runner.sources.ollama_store import OllamaName, in_store, manifest_path


def copy_manifest(source: OllamaName, destination: OllamaName) -> None:
    """Nothing is replaced: a name that already means another model is a BadRequest."""
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
        shown = error.filename or target
        raise DiptychError(f"{shown} cannot be written: {error.strerror or error}") from error


def _write_new(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        try:
            file.write(content)
            file.flush()
        except BaseException:
            path.unlink()
            raise
