"""Requests that a model would refuse once it is loaded, refused before: pictures that it would not see, and texts that it would
not write."""

import msgspec
from msgspec import Struct

from runner.errors import BadRequest
from runner.gateway.resolver import ResolvedModel
from runner.sources import ModelMode

# Routes of a runner that need a model that writes.
WRITING = ("/completion", "/apply-template")


class _Message(Struct):
    images: list[msgspec.Raw] | None = None


class _Pictures(Struct):
    messages: list[_Message] | None = None


def check_writes(model: ResolvedModel) -> None:
    if model.silent:
        raise BadRequest(f"model: {model.silent}")


def check_sight(model: ResolvedModel, at: int) -> None:
    """`at`: the message that has pictures."""
    if model.blind:
        raise BadRequest(f"messages[{at}].images[0]: {model.blind}")


def check_native(model: ResolvedModel, path: str, raw: bytes) -> None:
    """A request of the native API, by its JSON. What cannot be read is left to the runner, which says what is wrong with it."""
    if model.mode is not ModelMode.TEXT or path not in WRITING:
        return
    check_writes(model)
    if not model.blind or b'"images"' not in raw:
        return
    try:
        messages = msgspec.json.decode(raw, type=_Pictures).messages or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    for at, message in enumerate(messages):
        if message.images:
            check_sight(model, at)
