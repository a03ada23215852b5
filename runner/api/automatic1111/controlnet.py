"""ControlNets in the words of AUTOMATIC1111's extension: `alwayson_scripts.controlnet.args`."""

import re
from typing import Annotated, Any

from msgspec import Meta, Struct

from runner.api.openai.image_edits import data_of
from runner.errors import BadRequest
from runner.protocol.text import parse

SCRIPT = "controlnet"
PLACE = f"alwayson_scripts.{SCRIPT}"
HASH = re.compile(r" \[[0-9a-f]{1,64}\]$")
NONE = (None, "", "none", "None")
BALANCED = (None, 0, "Balanced")


class Unit(Struct, frozen=True):
    enabled: bool = True
    module: str | None = None
    model: str | None = None
    image: str | dict[str, Any] | None = None
    input_image: str | None = None
    weight: float | None = None
    guidance_start: Annotated[float, Meta(ge=0, le=1)] | None = None
    guidance_end: Annotated[float, Meta(ge=0, le=1)] | None = None
    control_mode: int | str | None = None


class Units(Struct, frozen=True):
    args: list[Unit] = []


def controls(scripts: dict[str, Any]) -> list[dict[str, Any]]:
    """The ControlNets that a request's scripts name, as the engine's request has them."""
    given = next((value for name, value in scripts.items() if name.lower() == SCRIPT), None)
    if given is None:
        return []
    if not isinstance(given, dict):
        raise BadRequest(f"{PLACE}: an object with args is needed")
    try:
        units = parse(Units, given).args
    except BadRequest as error:
        raise BadRequest(f"{PLACE}.{error.message}") from None
    return [_control(unit, f"{PLACE}.args[{index}]") for index, unit in enumerate(units) if unit.enabled]


def others(scripts: dict[str, Any]) -> list[str]:
    """The scripts that have no effect."""
    return [name for name in scripts if name.lower() != SCRIPT]


def _control(unit: Unit, place: str) -> dict[str, Any]:
    if unit.module not in NONE:
        raise BadRequest(
            f"{place}.module: {str(unit.module)[:64]!r} is not supported; send the picture of edges, depths or poses itself"
        )
    if unit.control_mode not in BALANCED:
        raise BadRequest(f"{place}.control_mode: only 0 (Balanced) is supported")
    if unit.model in NONE:
        raise BadRequest(f"{place}.model is missing; the name of a ControlNet is needed")
    image = unit.image.get("image") if isinstance(unit.image, dict) else unit.image
    image = image or unit.input_image
    if not isinstance(image, str) or not image:
        raise BadRequest(f"{place}.image: the picture that it follows is missing")
    fields = {
        "scale": unit.weight,
        "start": unit.guidance_start,
        "end": unit.guidance_end,
    }
    named = {"name": HASH.sub("", unit.model or ""), "image": data_of(image, f"{place}.image")}
    return named | {name: value for name, value in fields.items() if value is not None}
