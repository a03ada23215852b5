"""A runner's answers, read: its JSON, and its refusals as the errors that they were."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from runner.errors import (
    BadRequest,
    Busy,
    DiptychError,
    ModelNotFound,
    NotAllowed,
    NotEnoughMemory,
    RunnerFailed,
    TooLarge,
)
from runner.process.client import Answer
from runner.protocol.text import encode

_ERRORS: dict[int, type[DiptychError]] = {
    400: BadRequest,
    403: NotAllowed,
    404: ModelNotFound,
    413: TooLarge,
    507: NotEnoughMemory,
}


def encode_request(body: Mapping[str, Any]) -> bytes:
    """A request's body. BadRequest for what JSON cannot say: it has no word for a number that is none."""
    try:
        check_numbers(body)
        return encode(body)
    except (TypeError, UnicodeEncodeError, RecursionError) as error:
        raise BadRequest(f"the request cannot be written as JSON: {error}") from None


def check_numbers(value: Any, name: str = "the request") -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise BadRequest(f"{name}: {value} is not a finite number")
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_numbers(item, str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            check_numbers(item, name)


def error_from(answer: Answer, found: Mapping[str, Any]) -> DiptychError:
    """The error that an answer other than 200 stands for."""
    message = str(found.get("error") or f"the runner answered {answer.status}")
    if answer.status == 503:
        stated = answer.headers.get("retry-after", "")
        return Busy(message, retry_after=int(stated) if stated.isdigit() else 1)
    return _ERRORS.get(answer.status, RunnerFailed)(message)


async def read_object(answer: Answer) -> dict[str, Any]:
    """The whole body, a JSON object. Broken when the connection ends before it."""
    return decode_object(await answer.read())


def decode_object(raw: bytes) -> dict[str, Any]:
    """A JSON object, or a RunnerFailed that shows what came instead."""
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise RunnerFailed(f"the runner answered nonsense: {raw[:80]!r}")
    return found
