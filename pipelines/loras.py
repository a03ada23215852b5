"""The adapters that a request names: their type on the wire, and the two ways in which people write them."""

import re
from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct

from pipelines.limits import LARGEST_SCALE, LONGEST_ADAPTER_NAME

TAG = re.compile(r"\s?<lora:([^<>]{1,512})>")
NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")


class Lora(Struct, frozen=True, omit_defaults=True):
    """An adapter by its name, how much of it is added, and in recipes the beginning of its file's SHA-256."""

    name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=LONGEST_ADAPTER_NAME,
            description="in the folder of adapters, or a hub repository: owner/name, or owner/name:file",
        ),
    ]
    scale: Annotated[float, Meta(ge=-LARGEST_SCALE, le=LARGEST_SCALE)] = 1.0
    hash: Annotated[str, Meta(max_length=64, pattern="^[0-9a-f]*$")] = ""

    def __str__(self) -> str:
        return self.name if self.scale == 1 else f"{self.name}:{self.scale:g}"


def parse_lora(text: str) -> Lora:
    """NAME or NAME:SCALE; a ValueError where the scale is out of range."""
    name, colon, scale = text.rpartition(":")
    if not colon or not NUMBER.fullmatch(scale):
        return Lora(text)
    if not -LARGEST_SCALE <= float(scale) <= LARGEST_SCALE:
        raise ValueError(f"{scale} is out of range; -{LARGEST_SCALE} to {LARGEST_SCALE} is allowed")
    return Lora(name, float(scale))


def take_tags(prompt: str) -> tuple[str, tuple[Lora, ...]]:
    """A prompt without the <lora:NAME:SCALE> in it, and what they say."""
    loras = tuple(parse_lora(match[1]) for match in TAG.finditer(prompt))
    return (TAG.sub("", prompt).strip(), loras) if loras else (prompt, ())


def with_tags(prompt: str, loras: Iterable[Lora]) -> str:
    return "".join([prompt, *(f" <lora:{lora.name}:{lora.scale:g}>" for lora in loras)])
