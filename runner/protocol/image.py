"""The wire contract's shapes for pictures: the request, and the events on the way to its pictures."""

from binascii import b2a_base64
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from pipelines.limits import MOST_REFERENCES
from pipelines.parameters import ImageParameters, Previews, check
from runner.errors import BadRequest
from runner.protocol.text import OPTION_NAMES, TextRequest, parse

MOST_WARNINGS = 16

Format = Literal["png", "jpeg", "webp"]
Quality = Literal["low", "medium", "high", "xhigh", "max"]
# A file, as a JSON string already: megabytes of base64 are neither decoded to text nor scanned for characters to escape.
Base64 = Annotated[Raw, Meta(extra_json_schema={"type": "string", "contentEncoding": "base64"})]


class ImageCompletionRequest(ImageParameters, frozen=True, kw_only=True, omit_defaults=True):
    """POST /completion in image mode."""

    images: Annotated[list[str], Meta(max_length=MOST_REFERENCES)] = field(default_factory=list)
    mask: str | None = None  # of the first picture
    previews: Previews = 0
    format: Format = "png"
    compression: Annotated[int, Meta(ge=0, le=100)] | None = None
    quality: Quality | None = None
    stream: bool = True


class ImageStarted(Struct, frozen=True):
    """The first event, before the prompt is encoded."""

    total: int


class ImageStep(Struct, frozen=True):
    step: int
    total: int
    preview: Base64 | UnsetType = UNSET


class ImageChunk(Struct, frozen=True):
    """One picture of several."""

    image: Base64
    index: int


class ImageDone(Struct, frozen=True):
    """The last event. Durations are nanoseconds; `image` is present if the request is for one picture, `seeds`
    if each picture has its own, `skipped_steps` (of all pictures) if there is a step cache."""

    seed: int
    width: int
    height: int
    total: int
    load_duration: int
    prompt_eval_duration: int
    eval_duration: int
    decode_duration: int
    peak_memory: int
    format: Format
    image: Base64 | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET
    seeds: list[int] | UnsetType = UNSET
    skipped_steps: int | UnsetType = UNSET
    done: Literal[True] = True


class ImageWhole(ImageDone, frozen=True):
    """Pictures without a stream; `images` when there are several."""

    images: list[Base64] | UnsetType = UNSET


def to_base64(data: bytes) -> Raw:
    return Raw(b'"%b"' % b2a_base64(data, newline=False))


def from_base64(text: Raw) -> bytes:
    return msgspec.json.decode(text, type=bytes)


NAMES = frozenset(ImageCompletionRequest.__struct_fields__)
TEXT_NAMES = (frozenset(TextRequest.__struct_fields__) | OPTION_NAMES) - NAMES - {"options"}


def parse_image(value: dict[str, Any]) -> tuple[ImageCompletionRequest, list[str]]:
    """A request for pictures, and warnings about ignored fields. Every field may also be under `options`; the top level
    takes precedence."""
    options = value.get("options")
    if options is not None and not isinstance(options, dict):
        raise BadRequest("options: it must be an object")
    fields = {**_set_fields(options or {}), **_set_fields(value)}
    if fields.get("format") == "":
        del fields["format"]
    if fields.get("prompt", "") == "":
        problem = "is empty" if "prompt" in fields else "is missing"
        raise BadRequest(f"prompt {problem}; a description of the picture is needed")
    request = parse(ImageCompletionRequest, fields)
    _check(request)
    return request, _ignored(value, options or {})


def _set_fields(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in NAMES & fields.keys() if fields[name] is not None}


def _check(request: ImageCompletionRequest) -> None:
    try:
        check(request)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    if request.strength is not None and not request.images:
        raise BadRequest(f"strength: {request.strength} needs a picture to start from, but images is empty")
    if request.mask and not request.images:
        raise BadRequest("mask: it needs the picture that it belongs to, but images is empty")


def _ignored(value: dict[str, Any], options: dict[str, Any]) -> list[str]:
    loose = sorted(name for name in TEXT_NAMES & value.keys() if value[name] is not None)
    under = sorted(str(name) for name in options.keys() - NAMES)
    warnings = [f"{name} is for text and was ignored" for name in loose]
    for name in under:
        why = "is for text" if name in TEXT_NAMES else "is unknown"
        warnings.append(f"options.{name[:64]} {why} and was ignored")
    return warnings[:MOST_WARNINGS]
