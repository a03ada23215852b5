"""Prompt to picture, one file a family. May import models.

PIPELINES registers the families by the class that a checkpoint's model_index.json names. It can be asked without MLX, which
comes with `pipeline_class`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pipelines import variants
from pipelines.limits import MOST_REFERENCES
from pipelines.variants import Checkpoint, Variant


@dataclass(frozen=True)
class Capabilities:
    """The parameters that have an effect on a model, and how many pictures it can look at while drawing: without any, it
    may start from one."""

    supported_parameters: tuple[str, ...]
    max_references: int


@dataclass(frozen=True)
class Family:
    """`pipeline` is "module:Class"; `variant` reads a checkpoint's JSON. `supported_params`: the parameters of some
    families only that have an effect; `max_references`: pictures that can be looked at while drawing."""

    pipeline: str
    variant: Callable[[Checkpoint], Variant]
    supported_params: tuple[str, ...] = ()
    max_references: int = 0

    def capabilities(self, variant: Variant) -> Capabilities:
        from pipelines.parameter_types import parameters_of  # which import msgspec
        from pipelines.parameters import ImageParameters

        supported = (
            parameter.name
            for parameter in parameters_of(ImageParameters)
            if parameter.name not in variant.ignored_params
            and (parameter.name in self.supported_params or not parameter.family_specific)
        )
        return Capabilities(tuple(supported), self.max_references)


COMMON = ("loras", "lora_tags", "guidance_until")
CACHED = (*COMMON, "step_cache")
PIPELINES: dict[str, Family] = {
    "Flux2KleinPipeline": Family("pipelines.flux2:Flux2Klein", variants.flux2_klein, CACHED, MOST_REFERENCES),
    "Flux2KleinKVPipeline": Family("pipelines.flux2_kv:Flux2KleinKV", variants.flux2_klein_kv, CACHED, MOST_REFERENCES),
    "Flux3DistilledModularPipeline": Family("pipelines.flux3:Flux3Klein", variants.flux3_klein, (*COMMON, "boxes"), MOST_REFERENCES),
    "Flux3ModularPipeline": Family("pipelines.flux3:Flux3Klein", variants.flux3_klein, (*COMMON, "boxes"), MOST_REFERENCES),
    "Krea2Pipeline": Family("pipelines.krea2:Krea2", variants.krea2, COMMON),
    "ZImagePipeline": Family("pipelines.z_image:ZImage", variants.z_image, (*CACHED, "decode", "controls", "cfg_normalization", "cfg_truncation")),
    "FluxPipeline": Family("pipelines.flux:Flux", variants.flux, (*CACHED, "decode", "controls", "true_cfg_scale")),
    "FluxKontextPipeline": Family("pipelines.flux_kontext:FluxKontext", variants.flux_kontext, (*CACHED, "decode", "true_cfg_scale"), 1),
    "FluxFillPipeline": Family("pipelines.flux_fill:FluxFill", variants.flux_fill, (*CACHED, "decode", "true_cfg_scale")),
    "FluxControlPipeline": Family("pipelines.flux_control:FluxControl", variants.flux_control, (*CACHED, "decode", "true_cfg_scale"), 1),
    "QwenImagePipeline": Family("pipelines.qwen_image:QwenImage", variants.qwen_image, COMMON),
    "QwenImageEditPipeline": Family("pipelines.qwen_image_edit:QwenImageEdit", variants.qwen_image_edit, COMMON, 1),
    "QwenImageEditPlusPipeline": Family("pipelines.qwen_image_edit:QwenImageEditPlus", variants.qwen_image_edit_plus, COMMON, MOST_REFERENCES),
}  # fmt: skip


def pipeline_class(name: str) -> Any:
    """The registered class of that name, imported now, and MLX with it."""
    module, _, attribute = PIPELINES[name].pipeline.partition(":")
    return getattr(import_module(module), attribute)
