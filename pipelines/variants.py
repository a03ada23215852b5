"""The variants of each family: default steps and guidance, and the longest prompt, read from a checkpoint's JSON.

The pipelines of either engine use these, so that both have the same defaults. No MLX.
"""

from dataclasses import dataclass
from typing import Any

from models.config import ConfigError, read_json
from models.files import LocalModel

TURBO_SHIFT = 3.0


@dataclass(frozen=True)
class Variant:
    """`guidance` None: off unless requested. `tokens`: of the longest prompt. `distilled`: trained to need few steps."""

    steps: int
    guidance: float | None
    tokens: int
    distilled: bool


def flux2_klein(model: LocalModel) -> Variant:
    if _is_distilled(model):
        return Variant(4, None, 512, distilled=True)
    return Variant(50, 4.0, 512, distilled=False)


def z_image(model: LocalModel) -> Variant:
    """Turbo and base share their architecture: without a statement, the name and the scheduler tell them apart."""
    distilled = _is_distilled(model)
    if distilled is None:
        scheduler = scheduler_config(model)
        static = not scheduler.get("use_dynamic_shifting", False)
        distilled = "turbo" in model.name.lower() or (static and scheduler.get("shift", 1.0) == TURBO_SHIFT)
    return Variant(8, None, 512, distilled=True) if distilled else Variant(50, 5.0, 512, distilled=False)


def flux(model: LocalModel) -> Variant:
    """`guidance_embeds`: dev. A schedule with a static shift, or the name: schnell. Otherwise undistilled."""
    if config_of(model, "transformer").get("guidance_embeds", False):
        return Variant(28, 3.5, 512, distilled=False)
    if "schnell" in model.name.lower() or not scheduler_config(model).get("use_dynamic_shifting", False):
        return Variant(4, None, 256, distilled=True)
    return Variant(28, None, 512, distilled=False)


def config_of(model: LocalModel, component: str) -> dict[str, Any]:
    return read_json(model.folder / component / "config.json")


def scheduler_config(model: LocalModel) -> dict[str, Any]:
    return read_json(model.folder / "scheduler" / "scheduler_config.json")


def _is_distilled(model: LocalModel) -> bool | None:
    """None where model_index.json does not state it."""
    value = read_json(model.folder / "model_index.json").get("is_distilled")
    if value is not None and not isinstance(value, bool):
        raise ConfigError(f"is_distilled in model_index.json is {value!r}; true or false is needed")
    return value
