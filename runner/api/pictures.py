"""Pictures in the messages of a chat, as the APIs have them: data URIs, or base64 as it is. URLs are never fetched."""

from runner.errors import BadRequest
from runner.protocol.text import Detail, Part

DETAILS: dict[str | None, Detail] = {
    None: "auto",
    "auto": "auto",
    "low": "low",
    "high": "high",
    "original": "high",
}


def picture_data(text: str, place: str) -> str:
    """The base64 of a picture."""
    if "://" in text[:16]:
        raise BadRequest(f"{place}: URLs are not fetched; send the picture itself, as a data URI")
    head, comma, data = text.partition(",")
    if not text[:5].lower().startswith("data:"):
        raise BadRequest(f"{place}: a data URI of the form data:image/png;base64,… is needed")
    if not comma or not head.endswith(";base64"):
        raise BadRequest(f"{place}: a data URI of the form data:image/png;base64,… is needed")
    if not head[5:].lower().startswith("image/"):
        raise BadRequest(f"{place}: {head[5:-7][:64]} is not supported; pictures (image/png, …) are")
    return data


def picture_part(detail: str | None, place: str) -> Part:
    """The place of a picture in a message."""
    if detail not in DETAILS:
        names = ", ".join(name for name in DETAILS if name)
        raise BadRequest(f"{place}: {str(detail)[:64]!r} is not allowed; one of {names} is needed")
    return Part("image", detail=DETAILS[detail])
