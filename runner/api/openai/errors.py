"""Errors in OpenAI's shape: message, type, param, code."""

import logging
import re

from starlette.routing import Match
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
    PreviousNotStored,
    RequestCancelled,
    RunnerFailed,
    StoreFailed,
    TooLarge,
)
from runner.gateway.responses import begin, end, more
from runner.http.middleware import request_context
from runner.http.operation import operation_of
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
    PreviousNotStored: "previous_response_not_found",
    StoreFailed: "store_failed",
}
# Clients look for this code, or for the words of OpenAI, llama.cpp, vLLM or SGLang, to send less.
CONTEXT_EXCEEDED = "context_length_exceeded"
CONTEXT = re.compile(r"do not fit into the context of ([0-9]+)")
FIELD = re.compile(
    r"(?:options\.)?([a-z_][a-z0-9_]*(?:[.\[][^:\s]*)?)(?:, height)?(?:: | is (?:missing|empty))"
)
# Fields with another name in the native API.
SIZE_FIELDS = ("width", "height")
OPENAI_NAMES = {
    "num_predict": "max_completion_tokens",
    "format": "response_format",
    "content": "input",
    **dict.fromkeys(SIZE_FIELDS, "size"),
    "images": "image",
}


def openai_error(error: DiptychError) -> Failure:
    """The body of an error response."""
    message, code = error.message, CODES.get(type(error))
    param = None
    if error.status in (400, 404) and (match := FIELD.match(message)):
        field, name = match.group(1), re.split(r"[.\[]", match.group(1))[0]
        param = OPENAI_NAMES.get(name, field.partition("[...]")[0])
        if name not in SIZE_FIELDS:
            message = OPENAI_NAMES.get(name, name) + field[len(name) :] + message[match.end(1) :]
    if error.status == 400 and (context := CONTEXT.search(message)):
        code = CONTEXT_EXCEEDED
        message = (
            f"{message}. This model's maximum context length is {context.group(1)} tokens. The prompt exceeds the available "
            "context size; it is longer than the model's context length."
        )
    if isinstance(error, ModelNotFound | ModelNotSupported):
        param = "model"
    kind: Kind = "server_error" if error.status >= 500 else "invalid_request_error"
    return Failure(Error(message, kind, param, code))


def is_openai(scope: Scope) -> bool:
    """Whether a request's errors have OpenAI's shape: its route's operation says so. Where no route fits, everything
    under /v1 counts as OpenAI's."""
    routes = scope["app"].routes if scope["type"] == "http" else []
    for route in routes:
        operation = operation_of(getattr(route, "endpoint", None))
        if operation is not None and route.matches(scope)[0] is not Match.NONE:
            return operation.failure is Failure
    return f"{scope.get('path', '')}/".startswith(PREFIX)


class OpenAIErrors:
    """ASGI middleware: errors of OpenAI's routes look as its clients expect them, wherever they are raised."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if not is_openai(scope) or request_context(scope).status:
                raise
            if not isinstance(error, DiptychError):
                log.exception("a request failed", extra={"id": request_context(scope).id})
                error = DiptychError("internal error; see the log of the gateway")
            headers = [(b"content-type", b"application/json"), *error.headers]
            if error.status >= 500 and not isinstance(error, Busy):
                # Otherwise clients would repeat the request at once, with the same result.
                headers.append((b"x-should-retry", b"false"))
            await begin(send, error.status, headers)
            await more(send, encode(openai_error(error)))
            await end(send)
