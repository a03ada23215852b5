"""Which kind of its family a checkpoint is, told by its files: how many steps, how much guidance, how long a prompt.

Read by the pipelines of either engine, so that a request that says nothing means the same to both. No MLX.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from models.config import ConfigError, read_json
from models.files import LocalModel

KLEIN_TOKENS = 512
DISTILLED = 4
KLEIN_BASE, KLEIN_GUIDANCE = 50, 4.0

Z_IMAGE_TOKENS = 512
TURBO = 8
Z_IMAGE_BASE, Z_IMAGE_GUIDANCE = 50, 5.0
TURBO_SHIFT = 3.0

SCHNELL, SCHNELL_TOKENS = 4, 256
DEV, DEV_TOKENS, DEV_GUIDANCE = 28, 512, 3.5


@dataclass(frozen=True)
class Kind:
    """`guidance` None: the model takes none unless it is asked to. `fast`: trained to need few steps."""

    steps: int
    guidance: float | None
    tokens: int
    fast: bool


def klein(model: LocalModel) -> Kind:
    if stated(read_json(model.folder / "model_index.json"), "is_distilled"):
        return Kind(DISTILLED, None, KLEIN_TOKENS, fast=True)
    return Kind(KLEIN_BASE, KLEIN_GUIDANCE, KLEIN_TOKENS, fast=False)


def z_image(model: LocalModel) -> Kind:
    if _is_turbo(model):
        return Kind(TURBO, None, Z_IMAGE_TOKENS, fast=True)
    return Kind(Z_IMAGE_BASE, Z_IMAGE_GUIDANCE, Z_IMAGE_TOKENS, fast=False)


def flux(model: LocalModel) -> Kind:
    if bool(config_of(model, "transformer").get("guidance_embeds", False)):
        return Kind(DEV, DEV_GUIDANCE, DEV_TOKENS, fast=False)
    if "schnell" in model.name.lower() or not _schedule(model).get("use_dynamic_shifting", False):
        return Kind(SCHNELL, None, SCHNELL_TOKENS, fast=True)
    return Kind(DEV, None, DEV_TOKENS, fast=False)


KINDS: Mapping[str, Callable[[LocalModel], Kind]] = {
    "Flux2KleinPipeline": klein,
    "ZImagePipeline": z_image,
    "FluxPipeline": flux,
}


def config_of(model: LocalModel, component: str, name: str = "config.json") -> dict[str, Any]:
    return read_json(model.folder / component / name)


def stated(index: Mapping[str, Any], key: str) -> bool | None:
    """What model_index.json says about a yes-or-no question, if anything."""
    value = index.get(key)
    if value is not None and not isinstance(value, bool):
        raise ConfigError(f"{key} in model_index.json is {value!r}, true or false is needed")
    return value


def _is_turbo(model: LocalModel) -> bool:
    distilled = stated(read_json(model.folder / "model_index.json"), "is_distilled")
    if distilled is not None:
        return distilled
    if "turbo" in model.name.lower():
        return True
    schedule = _schedule(model)
    return not schedule.get("use_dynamic_shifting", False) and schedule.get("shift", 1.0) == TURBO_SHIFT


def _schedule(model: LocalModel) -> dict[str, Any]:
    return config_of(model, "scheduler", "scheduler_config.json")
