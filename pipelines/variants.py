"""The variants of each family: default steps and guidance, and the longest prompt, read from a checkpoint's JSON.

The pipelines of either engine use these, so that both have the same defaults. No MLX.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from models.config import ConfigError
from models.files import INDEX, INDEXES

TURBO_SHIFT = 3.0


class Checkpoint(Protocol):
    """The JSON of a checkpoint: that of a `LocalModel`, or of files that are not in one folder."""

    @property
    def name(self) -> str: ...

    def read_json(self, path: str) -> dict[str, Any] | None:
        """None where there is no such file."""
        ...


@dataclass(frozen=True)
class Variant:
    """`guidance` None: off unless requested. `tokens`: of the longest prompt. `distilled`: trained to need few steps.
    `ignored_params`: parameters that have an effect on other variants only."""

    steps: int
    guidance: float | None
    tokens: int
    distilled: bool
    ignored_params: tuple[str, ...] = ()


def flux2_klein(model: Checkpoint) -> Variant:
    if _is_distilled(model):
        return flux2_klein_kv(model)
    return Variant(50, 4.0, 512, distilled=False)


def flux2_klein_kv(model: Checkpoint) -> Variant:
    return Variant(
        4, None, 512, distilled=True, ignored_params=("guidance", "negative_prompt", "guidance_until")
    )


def flux3_klein(model: Checkpoint) -> Variant:
    """Distilled ones are flow maps, whatever class their index names."""
    if config_of(model, "transformer").get("flow_map", False):
        return Variant(
            16, None, 8192, distilled=True, ignored_params=("guidance", "negative_prompt", "guidance_until")
        )
    return Variant(50, 3.5, 8192, distilled=False)


def krea2(model: Checkpoint) -> Variant:
    return (
        Variant(8, None, 512, distilled=True)
        if _is_distilled(model)
        else Variant(28, 4.5, 512, distilled=False)
    )


def z_image(model: Checkpoint) -> Variant:
    """Turbo and base share their architecture: without a statement, the name and the scheduler tell them apart."""
    distilled = _is_distilled(model)
    if distilled is None:
        scheduler = scheduler_config(model)
        static = not scheduler.get("use_dynamic_shifting", False)
        distilled = "turbo" in model.name.lower() or (static and scheduler.get("shift", 1.0) == TURBO_SHIFT)
    return Variant(8, None, 512, distilled=True) if distilled else Variant(50, 5.0, 512, distilled=False)


def flux(model: Checkpoint) -> Variant:
    """`guidance_embeds`: dev. A schedule with a static shift, or the name: schnell. Otherwise undistilled."""
    if config_of(model, "transformer").get("guidance_embeds", False):
        return Variant(28, 4.5 if "krea" in model.name.lower() else 3.5, 512, distilled=False)
    if "schnell" in model.name.lower() or not scheduler_config(model).get("use_dynamic_shifting", False):
        return Variant(4, None, 256, distilled=True)
    return Variant(28, None, 512, distilled=False)


def flux_kontext(model: Checkpoint) -> Variant:
    return Variant(28, 2.5, 512, distilled=False)


def flux_fill(model: Checkpoint) -> Variant:
    return Variant(50, 30.0, 512, distilled=False)


def flux_control(model: Checkpoint) -> Variant:
    """Canny and Depth share everything but their weights; the model cards' steps and guidance go by the name."""
    name = model.name.lower()
    if "canny" in name:
        return Variant(50, 30.0, 512, distilled=False)
    return Variant(30, 10.0, 512, distilled=False)


def qwen_image(model: Checkpoint) -> Variant:
    return Variant(50, 4.0, 512, distilled=False)


def qwen_image_edit(model: Checkpoint) -> Variant:
    """The reference does not bound these prompts."""
    return Variant(50, 4.0, 1024, distilled=False)


def qwen_image_edit_plus(model: Checkpoint) -> Variant:
    return Variant(40, 4.0, 1024, distilled=False)


def config_of(model: Checkpoint, component: str) -> dict[str, Any]:
    return _read(model, f"{component}/config.json")


def scheduler_config(model: Checkpoint) -> dict[str, Any]:
    return _read(model, "scheduler/scheduler_config.json")


def read_index(model: Checkpoint) -> dict[str, Any]:
    found = (model.read_json(name) for name in INDEXES)
    index = next((values for values in found if values is not None), None)
    return _read(model, INDEX) if index is None else index


def _is_distilled(model: Checkpoint) -> bool | None:
    """None where the index does not state it."""
    value = read_index(model).get("is_distilled")
    if value is not None and not isinstance(value, bool):
        raise ConfigError(f"is_distilled in {INDEX} is {value!r}; true or false is needed")
    return value


def _read(model: Checkpoint, path: str) -> dict[str, Any]:
    values = model.read_json(path)
    if values is None:
        raise ConfigError(f"{path} is missing")
    return values
