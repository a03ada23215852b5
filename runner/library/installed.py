"""A model on this machine, as lists show it, and a plan to remove it."""

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
    """A model on this machine, by the name that all commands take.

    `fault` says why it cannot be run; mode and type may then be unknown (None, ""). `digest` changes with the model: a hub
    commit, or the SHA-256 of an Ollama manifest ("" for a folder).
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
    """All models on this machine; `warnings` name what is in the stores and is not a model."""

    models: tuple[Installed, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Removal:
    """What removing a model does: it frees `bytes`, and removes the names in `also` too. `run` carries it out."""

    model: Installed
    bytes: int
    run: Callable[[], None]
    also: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def described(model: Installed, files: ModelFiles) -> Installed:
    """The model with its mode and type, or with the fault that keeps it from being run."""
    try:
        missing = missing_part(files, strict=False)
        if missing:
            return replace(model, fault=f"not complete: {missing}")
        mode, type_name = mode_of(files), detect_model_type(files)
        return replace(model, mode=mode, type=type_name, fault=unsupported(files, mode, type_name))
    except ModelNotSupported as error:
        return replace(model, fault=error.message)
