"""What a model's files make: text or pictures, and by which class. Reads JSON only; no MLX."""

from typing import Any, NamedTuple

from runner.errors import ModelNotSupported
from runner.inspect.image_backend import choose_engine
from runner.sources import ModelFiles, ModelMode, find
from runner.sources.base import shorten, some

__all__ = ["ModelMode", "ModelType", "detect_model_mode", "detect_model_type"]


class ModelType(NamedTuple):
    """The mode, and for pictures the class of the pipeline that makes them (for text, "")."""

    mode: ModelMode
    pipeline: str


def detect_model_type(model: str | ModelFiles) -> str:
    """The class name that a picture model's model_index.json states, or a language model's `model_type`.

    `architecture` (Ollama's key) comes before `_class_name` (diffusers'). Says nothing about whether it can be run.
    """
    files = find(model) if isinstance(model, str) else model
    return _stated(files)[1]


def detect_model_mode(model: str | ModelFiles) -> ModelType:
    """Whether a model makes text or pictures, and the pipeline class that makes them.

    A model_index.json means pictures, and some engine must have its class (`runner.inspect.image_backend`); otherwise a
    config.json means text. Anything else is a ModelNotSupported that says what was found and what would be accepted.
    """
    files = find(model) if isinstance(model, str) else model
    mode, stated = _stated(files)
    if mode is ModelMode.TEXT:
        return ModelType(mode, "")
    choose_engine(files, stated)
    return ModelType(mode, stated)


def mode_of(files: ModelFiles) -> ModelMode:
    """The mode that the names of the files imply; says nothing about whether they can be run."""
    return ModelMode.IMAGE if "model_index.json" in files.listing() else ModelMode.TEXT


def _stated(files: ModelFiles) -> tuple[ModelMode, str]:
    index = files.read_json("model_index.json")
    if index is not None:
        return ModelMode.IMAGE, _class_name(index, files)
    config = files.read_json("config.json")
    if config is not None:
        return ModelMode.TEXT, _text_type(config, files)
    raise ModelNotSupported(
        f"{files.place} is no model: looked for model_index.json (pictures) and config.json (text), "
        f"found {some(files.listing())}"
    )


def _class_name(index: dict[str, Any], files: ModelFiles) -> str:
    for key in ("architecture", "_class_name"):
        stated = index.get(key)
        if isinstance(stated, str) and stated:
            return stated
        if stated:
            raise ModelNotSupported(
                f"model_index.json in {files.place}: {key} must be a string, found {shorten(stated)}"
            )
    raise ModelNotSupported(
        f"model_index.json in {files.place} names no class: it has neither architecture nor _class_name"
    )


def _text_type(config: dict[str, Any], files: ModelFiles) -> str:
    stated = config.get("model_type")
    if not isinstance(stated, str) or not stated:
        found = "it is missing" if "model_type" not in config else f"found {shorten(stated)}"
        raise ModelNotSupported(f"config.json in {files.place}: model_type must be a string, {found}")
    return stated
