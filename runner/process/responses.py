"""Responses of a runner: JSON, events, and refusals as the errors they were raised as."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

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
from runner.process.client import ConnectionLost, Response
from runner.protocol.events import Event, decode_event
from runner.protocol.image import ImageDone
from runner.protocol.text import TextDone, encode
from runner.protocol.validation import check_finite

_ERRORS: dict[int, type[DiptychError]] = {
    400: BadRequest,
    403: NotAllowed,
    404: ModelNotFound,
    413: TooLarge,
    507: NotEnoughMemory,
}


def encode_request(request: Struct | Mapping[str, Any]) -> bytes:
    """A request's body. BadRequest for what JSON cannot express, such as infinity in a mapping; the numbers of a
    typed request were checked when it was parsed."""
    try:
        if isinstance(request, Mapping):
            check_finite(request)
        return encode(request)
    except (TypeError, UnicodeEncodeError, RecursionError) as error:
        raise BadRequest(f"the request cannot be written as JSON: {error}") from None


def error_from(response: Response, body: Mapping[str, Any]) -> DiptychError:
    """The error that a status other than 200 stands for."""
    message = str(body.get("error") or f"the runner answered {response.status}")
    if response.status == 503:
        seconds = response.headers.get("retry-after", "")
        return Busy(message, retry_after=int(seconds) if seconds.isdigit() else 1)
    return _ERRORS.get(response.status, RunnerFailed)(message)


class Truncated(ConnectionLost):
    """The response is complete, and its last event is missing."""


async def read_events(
    send: Callable[[], Awaitable[Response]], explain: Callable[[ConnectionLost], Awaitable[DiptychError]]
) -> AsyncGenerator[Event, None]:
    """The events of a completion up to the last. `explain` says what a lost connection means."""
    response = await send()
    event: Event | None = None
    try:
        if response.status != 200:
            raise error_from(response, await read_object(response))
        async for line in response.lines():
            event = decode_event(line)
            yield event
        if not isinstance(event, TextDone | ImageDone):
            raise Truncated("the runner closed the stream before its final event")
    except ConnectionLost as error:
        if not isinstance(event, TextDone | ImageDone):
            raise await explain(error) from None
    finally:
        response.close()


async def read_object(response: Response) -> dict[str, Any]:
    """The whole body, a JSON object. ConnectionLost when the connection ends first."""
    return decode_object(await response.read())


def decode_object(raw: bytes) -> dict[str, Any]:
    """A JSON object, or a RunnerFailed that shows what came instead."""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RunnerFailed(f"the runner's answer is not a JSON object: {raw[:80]!r}") from None
