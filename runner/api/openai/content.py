"""The content of a turn: text, or parts with pictures as data URIs."""

from typing import Annotated

from msgspec import Meta, Struct

from runner.api.pictures import picture_data, picture_part
from runner.errors import BadRequest
from runner.protocol.text import Part as EnginePart

TEXTS = ("text", "refusal", "input_text", "output_text")
PICTURES = ("image_url", "input_image")
PARTS = (*TEXTS, *PICTURES)


class ImageUrl(Struct, frozen=True):
    url: str
    detail: str | None = None


class Part(Struct, frozen=True):
    """Text, or a picture as a data URI. The Responses API has `detail` beside the URI."""

    type: Annotated[str, Meta(extra_json_schema={"enum": PARTS})]
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None
    detail: str | None = None
    file_id: str | None = None


def content_of(content: str | list[Part] | None, place: str) -> tuple[str | list[EnginePart], list[str]]:
    """The content of a turn: its text, or parts if there are pictures, which come in base64."""
    if content is None or isinstance(content, str):
        return content or "", []
    parts, images = list[EnginePart](), list[str]()
    for index, part in enumerate(content):
        where = f"{place}.content[{index}]"
        if part.type in TEXTS:
            parts.append(EnginePart("text", part.text or part.refusal or ""))
            continue
        if part.type not in PICTURES:
            raise BadRequest(
                f"{where}.type: {part.type[:64]!r} is not supported; models here read text and pictures, no sound, "
                "video or files"
            )
        detail, url = part.detail, part.image_url
        if isinstance(url, ImageUrl):
            detail, url = url.detail, url.url
        if url is None:
            kept = "files are not kept; " if part.file_id else ""
            raise BadRequest(f"{where}.image_url is missing; {kept}a data URI with the picture is needed")
        images.append(picture_data(url, f"{where}.image_url"))
        parts.append(picture_part(detail, f"{where}.detail"))
    return parts if images else "".join(part.text or "" for part in parts), images


def text_of(content: str | list[Part] | None, place: str) -> str:
    """Content that may only be text."""
    text, images = content_of(content, place)
    if images or not isinstance(text, str):
        raise BadRequest(f"{place}.content: pictures are not allowed here; send text")
    return text
