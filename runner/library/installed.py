"""One model on this machine: as lists show it, and what removing it would do."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from runner.errors import ModelNotSupported
from runner.inspect.detect import unsupported
from runner.inspect.mode import detect_model_type, mode_of
from runner.sources import ModelFiles, ModelMode
from runner.sources.name import Source
from runner.sources.required_files import missing_part


@dataclass(frozen=True)
class Installed:
    """A model that is here, under the name that every command takes.

    `fault` says why it cannot be run; then mode and type may be unknown (None, ""). `digest` changes when the model
    does: a hub commit, or the SHA-256 of an Ollama manifest ("" for a folder).
    """

    name: str
    source: Source
    bytes: int
    modified: float
    digest: str = ""
    mode: ModelMode | None = None
    type: str = ""
    fault: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Library:
    """Every model of this machine; `warnings` name what lies in the stores and is no model."""

    models: tuple[Installed, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Removal:
    """What removing a model would do: `bytes` come free, the names in `also` go with it. `run` does it."""

    model: Installed
    bytes: int
    run: Callable[[], None]
    also: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def described(model: Installed, files: ModelFiles) -> Installed:
    """The model with what its files say: mode and type, or the fault that keeps it from being run."""
    try:
        lacks = missing_part(files, strict=False)
        if lacks:
            return replace(model, fault=f"not complete: {lacks}")
        mode, type_name = mode_of(files), detect_model_type(files)
        return replace(model, mode=mode, type=type_name, fault=unsupported(files, mode, type_name))
    except ModelNotSupported as error:
        return replace(model, fault=error.message)
