"""A model's capabilities, for clients."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from models.language.architectures import max_context
from runner.inspect.capabilities import image_capabilities, text_capabilities
from runner.inspect.detect import Detection, detect
from runner.library.installed import Installed
from runner.sources import ModelFiles, ModelMode, find
from runner.sources.gguf import GGUFFiles
from runner.sources.name import ModelName


@lru_cache(256)
def capabilities(model: Installed) -> tuple[str, ...]:
    """Empty for a model that cannot be run, because clients offer what is listed."""
    if model.fault is not None:
        return ()
    return ("image",) if model.mode is ModelMode.IMAGE else tuple(text_capabilities(files_of(model)))


@lru_cache(256)
def context_length(model: Installed) -> int | None:
    """How many tokens a language model's texts may have, by its files; None if they do not say."""
    if model.fault is not None or model.mode is not ModelMode.TEXT:
        return None
    return max_context(files_of(model).read_json("config.json") or {})


@lru_cache(256)
def detected(model: Installed) -> Detection:
    return detect(files_of(model))


def quantization(model: Installed) -> str:
    """How its weights are stored, in the words of their format; "" where that is not known."""
    files = files_of(model)
    return files.model.main_type() if isinstance(files, GGUFFiles) else detected(model).quantization or ""


@lru_cache(256)
def picture_fields(model: Installed) -> Mapping[str, Any]:
    """The `Capabilities` of a picture model as fields of an answer; empty where they are not known."""
    if model.fault is not None or model.mode is not ModelMode.IMAGE:
        return {}
    known = image_capabilities(files_of(model), model.type)
    return asdict(known) if known else {}


def files_of(model: Installed) -> ModelFiles:
    return find(str(ModelName(model.source, ModelName.parse(model.name).text)))
