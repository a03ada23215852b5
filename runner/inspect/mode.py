"""What a model makes, text or pictures, and by which class. Reads JSON only; no MLX."""

from typing import Any, NamedTuple

from runner.errors import ModelNotSupported
from runner.inspect.image_backend import ImageEngine, choose_engine
from runner.sources import ModelFiles, ModelMode, find
from runner.sources.base import shorten, some

__all__ = ["ModelMode", "ModelType", "detect_model_mode", "detect_model_type"]


class ModelType(NamedTuple):
    """The mode, and for pictures the class of the pipeline that makes them (for text, "") and the engine that runs it."""

    mode: ModelMode
    pipeline: str
    engine: ImageEngine = ImageEngine.MLX


def detect_model_type(model: str | ModelFiles) -> str:
    """The class name in a picture model's index (model_index.json, or modular_model_index.json), or a language model's `model_type`.

    `architecture` (Ollama's key) comes before `_class_name` (diffusers'). The model may not be runnable.
    """
    files = find(model) if isinstance(model, str) else model
    return _type(files)[1]


def detect_model_mode(model: str | ModelFiles, engine: str = "auto") -> ModelType:
    """Whether a model makes text or pictures, and the pipeline class that makes them.

    An index of parts means pictures, and `engine`, or with auto some engine, must have its class
    (`runner.inspect.image_backend`); otherwise a config.json means text. Anything else is a ModelNotSupported that says what was found and what is accepted.
    """
    files = find(model) if isinstance(model, str) else model
    mode, class_name = _type(files)
    if mode is ModelMode.TEXT:
        return ModelType(mode, "")
    return ModelType(mode, class_name, choose_engine(files, class_name, engine))


def mode_of(files: ModelFiles) -> ModelMode:
    """The mode, by the names of the files. The model may not be runnable."""
    return ModelMode.TEXT if files.index is None else ModelMode.IMAGE


def _type(files: ModelFiles) -> tuple[ModelMode, str]:
    index = files.read_index()
    if index is not None:
        return ModelMode.IMAGE, _class_name(index, files)
    config = files.read_json("config.json")
    if config is not None:
        return ModelMode.TEXT, _text_type(config, files)
    raise ModelNotSupported(
        f"{files.place} is not a model: looked for model_index.json (pictures) and config.json (text), "
        f"found {some(files.listing())}"
    )


def _class_name(index: dict[str, Any], files: ModelFiles) -> str:
    for key in ("architecture", "_class_name"):
        name = index.get(key)
        if isinstance(name, str) and name:
            return name
        if name:
            raise ModelNotSupported(
                f"{files.index} in {files.place}: {key} must be a string, found {shorten(name)}"
            )
    raise ModelNotSupported(
        f"{files.index} in {files.place} names no class: it has neither architecture nor _class_name"
    )


def _text_type(config: dict[str, Any], files: ModelFiles) -> str:
    name = config.get("model_type")
    if not isinstance(name, str) or not name:
        problem = "it is missing" if "model_type" not in config else f"found {shorten(name)}"
        raise ModelNotSupported(f"config.json in {files.place}: model_type must be a string, {problem}")
    return name
