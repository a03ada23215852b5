"""/v1/images/edits: the input pictures and the mask of a request, from a form's files or from JSON. URLs are never
fetched."""

import base64
from typing import Annotated, Any

from msgspec import Meta, Struct

from runner.api.forms import Form
from runner.api.openai.images import UNSUPPORTED, ImagesCall, ImagesRequest
from runner.errors import BadRequest
from runner.http import rules
from runner.protocol.text import parse

# What /v1/images/variations, which take no prompt, ask a model for.
VARIATION = "a variation of the picture: the same subject in the same style, composed differently"

File = Annotated[str, Meta(extra_json_schema={"contentMediaType": "application/octet-stream"})]


class Url(Struct, frozen=True):
    url: str


class Link(Struct, frozen=True):
    image_url: str | Url | None = None
    file_id: Annotated[str, Meta(extra_json_schema={"maxLength": 0})] | None = (
        None  # uploaded files are not kept
    )


Picture = Annotated[str, Meta(extra_json_schema={"pattern": "^data:image/[a-z]+;base64,"})]
Sent = Picture | Link | list[Picture | Link] | None
RULE = rules.either(
    *(rules.has(name, {"type": ["string", "object", "array"], "minItems": 1}) for name in ("image", "images"))
)


class EditRequest(ImagesRequest, frozen=True, kw_only=True):
    """Pictures as data URIs, under `image`, or under `images` as objects with image_url."""

    image: Sent = None
    images: Sent = None
    mask: Picture | Link | None = None


class EditForm(ImagesRequest, frozen=True, kw_only=True):
    """`image` may come several times, also as `image[]`."""

    prompt: Annotated[str, Meta(extra_json_schema={"minLength": 1})]  # an empty value counts as missing
    image: File
    mask: File | None = None


class VariationRequest(EditRequest, frozen=True, kw_only=True):
    prompt: str = VARIATION


class VariationForm(EditForm, frozen=True, kw_only=True):
    prompt: str = VARIATION


def edit_of_form(form: Form) -> ImagesCall:
    if "markup" in form.files:
        raise BadRequest(f"markup: {UNSUPPORTED['markup']}")
    pictures = _of_form(form, "image") + _of_form(form, "image[]")
    if not pictures:
        raise BadRequest("image is missing; a file to edit is needed")
    masks = _of_form(form, "mask")
    if len(masks) > 1:
        raise BadRequest(f"mask: {len(masks)} were sent; one is allowed, for the first picture")
    body = {name: values[-1] for name, values in form.fields.items() if values[-1] != ""}
    return ImagesCall(body, "image_edit", pictures, masks[0] if masks else None, loose=True)


def variation_of_form(form: Form) -> ImagesCall:
    form.fields.setdefault("prompt", [VARIATION])
    return edit_of_form(form)


def _of_form(form: Form, name: str) -> list[str]:
    """The files of that name, then what text fields of that name hold."""
    files = [base64.b64encode(file).decode() for file in form.files.get(name, [])]
    return files + [data_of(text, name) for text in form.fields.get(name, []) if text]


def edit_of_json(body: dict[str, Any]) -> ImagesCall:
    sent = parse(EditRequest, body)
    images = sent.images if sent.image is None else sent.image
    listed = images if isinstance(images, list) else [images]
    pictures = [_data(item, "image") for item in listed if item is not None]
    if not pictures:
        raise BadRequest("image is missing; a picture as a data URI is needed")
    mask = None if sent.mask is None else _data(sent.mask, "mask")
    return ImagesCall(body, "image_edit", pictures, mask)


def _data(item: str | Link, field: str) -> str:
    if isinstance(item, str):
        return data_of(item, field)
    if item.file_id:
        raise BadRequest(
            f"{field}: file_id is not supported, since uploaded files are not kept; send a data URI"
        )
    url = item.image_url.url if isinstance(item.image_url, Url) else item.image_url
    if url is None:
        raise BadRequest(f"{field}: image_url is missing; a data URI is needed")
    return data_of(url, field)


def data_of(text: str, field: str) -> str:
    """The base64 data of a data URI, or plain base64 as it is. URLs are never fetched."""
    if text[:8].lower().startswith(("http://", "https://", "file:")):
        raise BadRequest(f"{field}: URLs are not fetched; send the picture itself, as a file or a data URI")
    if not text.startswith("data:"):
        return text
    head, comma, data = text.partition(",")
    if not comma or not head.endswith(";base64"):
        raise BadRequest(f"{field}: a data URI of the form data:image/png;base64,… is needed")
    return data
