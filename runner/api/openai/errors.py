"""What goes wrong, in OpenAI's shape: message, type, param, code."""

import logging
import re

from starlette.types import ASGIApp, Receive, Scope, Send

from runner.api.openai.schemas import Error, Failure, Kind
from runner.errors import (
    Busy,
    DiptychError,
    HubUnreachable,
    KeyNeeded,
    ModelNotFound,
    ModelNotSupported,
    NotAllowed,
    NotEnoughDisk,
    NotEnoughMemory,
    RequestCancelled,
    RunnerFailed,
    TooLarge,
)
from runner.gateway.responses import begin, end, more
from runner.http.middleware import request_context
from runner.protocol.text import encode

log = logging.getLogger("diptych.http")

PREFIX = "/v1/"
CODES: dict[type[DiptychError], str] = {
    KeyNeeded: "invalid_api_key",
    NotAllowed: "permission_denied",
    ModelNotFound: "model_not_found",
    ModelNotSupported: "model_not_supported",
    TooLarge: "request_too_large",
    RequestCancelled: "request_cancelled",
    NotEnoughMemory: "not_enough_memory",
    NotEnoughDisk: "not_enough_disk",
    HubUnreachable: "hub_unreachable",
    Busy: "server_overloaded",
    RunnerFailed: "runner_failed",
}
# Clients look for this code, or for OpenAI's words, to send less.
TOO_LONG = "context_length_exceeded"
CONTEXT = re.compile(r"do not fit into the context of ([0-9]+)")
FIELD = re.compile(
    r"(?:options\.)?([a-z_][a-z0-9_]*(?:[.\[][^:\s]*)?)(?:, height)?(?:: | is (?:missing|empty))"
)
# What the native contract calls otherwise.
SIDES = ("width", "height")
THEIRS = {
    "num_predict": "max_completion_tokens",
    "format": "response_format",
    "content": "input",
    **dict.fromkeys(SIDES, "size"),
    "images": "image",
}


def shaped(error: DiptychError) -> Failure:
    """The body of an answer that failed."""
    message, code = error.message, CODES.get(type(error))
    param = None
    if error.status in (400, 404) and (found := FIELD.match(message)):
        field, name = found.group(1), re.split(r"[.\[]", found.group(1))[0]
        param = THEIRS.get(name, field.partition("[...]")[0])
        if name not in SIDES:
            message = THEIRS.get(name, name) + field[len(name) :] + message[found.end(1) :]
    if error.status == 400 and (context := CONTEXT.search(message)):
        code = TOO_LONG
        message = f"{message}. This model's maximum context length is {context.group(1)} tokens."
    if isinstance(error, ModelNotFound | ModelNotSupported):
        param = "model"
    kind: Kind = "server_error" if error.status >= 500 else "invalid_request_error"
    return Failure(Error(message, kind, param, code))


class OpenAIErrors:
    """ASGI middleware: under /v1 errors look as OpenAI's clients expect them, whoever raises them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if not f"{scope.get('path', '')}/".startswith(PREFIX) or request_context(scope).status:
                raise
            if not isinstance(error, DiptychError):
                log.exception("a request failed", extra={"id": request_context(scope).id})
                error = DiptychError("internal error; the log of the gateway says more")
            headers = [(b"content-type", b"application/json"), *error.headers]
            if error.status >= 500 and not isinstance(error, Busy):
                # The clients would try again at once, and it would be the same.
                headers.append((b"x-should-retry", b"false"))
            await begin(send, error.status, headers)
            await more(send, encode(shaped(error)))
            await end(send)
