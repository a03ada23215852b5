"""Prompt to picture, one file a family. May import models.

PIPELINES registers the families by the class that a checkpoint's model_index.json names. It can be asked without MLX, which
comes with `pipeline_class`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from models.files import LocalModel
from pipelines import variants
from pipelines.limits import MOST_REFERENCES
from pipelines.variants import Variant


@dataclass(frozen=True)
class Family:
    """`pipeline` is "module:Class"; `variant` reads a checkpoint's JSON. `supported_params`: the parameters of some
    families only that have an effect; `max_references`: pictures that can be looked at while drawing."""

    pipeline: str
    variant: Callable[[LocalModel], Variant]
    supported_params: tuple[str, ...] = ()
    max_references: int = 0


PIPELINES: dict[str, Family] = {
    "Flux2KleinPipeline": Family("pipelines.flux2:Flux2Klein", variants.flux2_klein, (), MOST_REFERENCES),
    "ZImagePipeline": Family("pipelines.z_image:ZImage", variants.z_image, ("cfg_normalization", "cfg_truncation")),
    "FluxPipeline": Family("pipelines.flux:Flux", variants.flux, ("true_cfg_scale",)),
}  # fmt: skip


def pipeline_class(name: str) -> Any:
    """The registered class of that name, imported now, and MLX with it."""
    module, _, attribute = PIPELINES[name].pipeline.partition(":")
    return getattr(import_module(module), attribute)
