"""Prompt to picture, one file a family. May import models.

PIPELINES is how a family is registered: the class that a checkpoint's model_index.json names, and where its pipeline
lives. Strings only, so that looking a class up imports nothing.
"""

from importlib import import_module
from typing import Any

PIPELINES: dict[str, str] = {
    "Flux2KleinPipeline": "pipelines.flux2:Flux2Klein",
    "ZImagePipeline": "pipelines.z_image:ZImage",
    "FluxPipeline": "pipelines.flux:Flux",
}


def pipeline_class(name: str) -> Any:
    """The registered class of that name, imported now, and MLX with it."""
    module, _, attribute = PIPELINES[name].partition(":")
    return getattr(import_module(module), attribute)
