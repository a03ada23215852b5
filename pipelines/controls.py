"""The ControlNets that a request names: their type on the wire, and how people write them on the command line."""

import re
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from pipelines.limits import LARGEST_SCALE, LONGEST_ADAPTER_NAME

Share = Annotated[float, Meta(ge=0, le=1)]
OPTION = re.compile(r",(start|end|mode|scale)=([^,=]*)$")
SCALE = re.compile(r":([0-9]+(?:\.[0-9]*)?|\.[0-9]+)$")


class Control(Struct, frozen=True, omit_defaults=True):
    """A ControlNet by its name, the picture that it follows, and how much of it is added from which part of the steps to
    which. Recipes have the hash of its weights instead of the picture."""

    name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=LONGEST_ADAPTER_NAME,
            description="in the folder of ControlNets, or a hub repository: owner/name",
        ),
    ]
    image: Annotated[str, Meta(description="edges, depths, poses or the like, as a file in base64")] = ""
    scale: Annotated[float, Meta(ge=0, le=LARGEST_SCALE)] = 1.0
    start: Share = 0.0
    end: Share = 1.0
    mode: Annotated[int, Meta(ge=0, le=1000, description="what a union's picture shows")] | None = None
    hash: Annotated[str, Meta(max_length=64, pattern="^[0-9a-f]*$")] = ""

    def __str__(self) -> str:
        mode = "" if self.mode is None else f", mode {self.mode}"
        part = "" if (self.start, self.end) == (0, 1) else f", {self.start:g} to {self.end:g} of the steps"
        return f"{self.name}:{self.scale:g}{part}{mode}"


def parse_control(text: str) -> tuple[Path, dict[str, Any]]:
    """NAME=PICTURE, then :SCALE and ,start=X, ,end=X, ,mode=N as needed: the picture's file, and the other fields."""
    fields: dict[str, Any] = {}
    while option := OPTION.search(text):
        name, value = option[1], option[2]
        try:
            fields[name] = int(value) if name == "mode" else float(value)
        except ValueError:
            raise ValueError(f"{name}: {value[:32]!r} is not a number") from None
        text = text[: option.start()]
    if scale := SCALE.search(text):
        fields["scale"] = float(scale[1])
        text = text[: scale.start()]
    name, equals, picture = text.partition("=")
    if not equals or not name or not picture:
        raise ValueError("NAME=PICTURE is needed, such as canny=edges.png:0.8")
    return Path(picture), {"name": name, **fields}
