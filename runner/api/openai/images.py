"""Shared by /v1/images/generations and /v1/images/edits: the body, and its translation to the engine's request."""

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from pipelines.parameters import ImageParameters, values
from runner.errors import BadRequest
from runner.http import rules
from runner.protocol.duration import Duration
from runner.protocol.image import Format, ImageCompletionRequest, Quality
from runner.protocol.text import parse

# Quality names of retired models.
FORMER: dict[str, Quality] = {"standard": "medium", "hd": "high"}
Kind = Literal["image_generation", "image_edit"]
SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
MOST_PARTIAL = 3


class ImagesRequest(ImageParameters, frozen=True, kw_only=True):
    """The fields of both endpoints. Those of ImageParameters are Diptych's own, but for prompt and n."""

    model: Annotated[str, Meta(min_length=1)]
    n: Annotated[int, Meta(ge=1, le=10)] | None = None  # type: ignore[assignment]  # null: one
    size: (
        Annotated[str, Meta(extra_json_schema={"pattern": "^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"})] | None
    ) = None
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] | None = None
    output_format: Format | None = None
    output_compression: Annotated[int, Meta(ge=0, le=100)] | None = None
    background: Literal["auto", "opaque", "transparent"] | None = None
    response_format: Literal["b64_json", "url"] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Meta(ge=0, le=MOST_PARTIAL)] | None = None
    keep_alive: Duration | None = None


# Fields that would change the picture, and why they are not supported.
UNSUPPORTED = {
    "markup": "markup is not supported; describe the change in the prompt",
    "svg": "SVG is not supported; pictures are PNG, JPEG or WebP",
    "complexity": "SVG is not supported; pictures are PNG, JPEG or WebP",
    "frame_count": "animations are not supported",
    "frame_duration_ms": "animations are not supported",
}
LISTS = ("loras", "controls", "boxes", "seeds", "variations")  # JSON in forms
NOT_GENERATED = {**UNSUPPORTED, "mask": "it belongs to a picture; send both to /v1/images/edits"}

RULES = (
    rules.needs("partial_images", rules.has("stream", {"const": True})),
    rules.needs("stream", {"properties": {"response_format": {"enum": [None, "b64_json"]}}}),
    {"properties": {"background": {"enum": [None, "auto", "opaque"]}}},
    rules.excludes("size", "width", "height"),
    rules.needs("seeds", {"properties": {"n": {"enum": [None, 1]}, "seed": {"enum": [None, 0]}}}),
    rules.needs("variations", {"properties": {"n": {"enum": [None, 1]}}}),
)


class ImagesCall:
    """A validated request. `kind` is the prefix of its event names."""

    def __init__(
        self,
        fields: dict[str, Any],
        kind: Kind,
        pictures: list[str],
        mask: str | None = None,
        loose: bool = False,
    ) -> None:
        for name, why in (UNSUPPORTED if kind == "image_edit" else NOT_GENERATED).items():
            if fields.get(name) is not None:
                raise BadRequest(f"{name}: {why}")
        if loose:
            lists = {name: fields[name] for name in LISTS if isinstance(fields.get(name), str)}
            fields = fields | {name: json_field(name, text) for name, text in lists.items()}
        self.body = parse(ImagesRequest, fields, strict=not loose)
        self.kind = kind
        self.pictures = pictures
        self.mask = mask
        self._check()

    def _check(self) -> None:
        body = self.body
        if body.background == "transparent":
            raise BadRequest('background: "transparent" is not supported; use opaque or auto')
        if body.size and (body.width or body.height):
            raise BadRequest("size: it cannot be combined with width and height; send one or the other")
        if body.partial_images and not body.stream:
            raise BadRequest("partial_images: it is only allowed if stream is true")
        if body.stream and body.response_format == "url":
            raise BadRequest("response_format: url is not allowed with stream; use b64_json")

    @property
    def format(self) -> Format:
        return self.body.output_format or "png"

    @property
    def quality(self) -> Quality | None:
        """None: the model's own number of steps."""
        quality = self.body.quality
        if quality is None or quality == "auto":
            return None
        return FORMER.get(quality, quality)  # type: ignore[arg-type]  # the rest are Quality's

    def engine_request(self) -> ImageCompletionRequest:
        body = self.body
        return ImageCompletionRequest(
            **{**values(body), **size(body.size)},
            images=self.pictures,
            mask=self.mask,
            previews=body.partial_images or 0,
            format=self.format,
            compression=body.output_compression,
            quality=self.quality,
        )


def json_field(name: str, text: str) -> Any:
    """A field of a form that is not a plain value."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise BadRequest(f"{name}: {text[:64]!r} is not JSON: {error}") from None


def size(text: str | None) -> dict[str, int]:
    """Width and height; empty if the model or the input picture decides."""
    if text is None or text == "auto":
        return {}
    match = SIZE.fullmatch(text)
    if match is None or "0" in match.groups():
        raise BadRequest(
            f'size: {text[:64]!r} is not allowed; it must be "auto", or width and height as in "1024x768"'
        )
    return {"width": int(match[1]), "height": int(match[2])}
