"""Errors in Anthropic's shape, and the `request-id` of its responses."""

import logging
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.api.anthropic.schemas import Error, Failure
from runner.errors import Busy, DiptychError
from runner.gateway.responses import begin, end, more
from runner.http.access import header
from runner.http.middleware import request_context
from runner.protocol.text import encode

log = logging.getLogger("diptych.http")

VERSION = b"anthropic-version"
PREFIX, MESSAGES = "/v1/", "/v1/messages/"
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    431: "invalid_request_error",
    503: "overloaded_error",
}
OTHER = "api_error"
# Claude Code looks for these words, and summarizes the conversation.
TOO_LONG = re.compile(r"its ([0-9]+) tokens do not fit into the context of ([0-9]+)")

# Fields with another name in the native API.
NAMES = {
    "options.stop": "stop_sequences",
    "options.num_predict": "max_tokens",
    "format": "output_config.format",
}
RENAMED = re.compile(rf"^({'|'.join(map(re.escape, NAMES))})(?=[:.\[ ])")


def anthropic_error(error: DiptychError, id: str) -> Failure:
    """The body of an error response."""
    message = RENAMED.sub(lambda match: NAMES[match[1]], error.message)
    if error.status == 400 and (match := TOO_LONG.search(message)):
        message = f"prompt is too long: {match[1]} tokens > {match[2]} maximum ({message})"
    return Failure(Error(TYPES.get(error.status, OTHER), message), id)


def is_anthropic(scope: Scope) -> bool:
    """Whether a response has Anthropic's shape: it is one to a message, or to a client that speaks this API."""
    path = f"{scope['path']}/" if scope["type"] == "http" else ""
    return path.startswith(MESSAGES) or (path.startswith(PREFIX) and bool(header(scope, VERSION)))


class AnthropicResponses:
    """ASGI middleware: responses to Anthropic's clients have its header with the request's id, and errors its shape."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_anthropic(scope):
            await self._app(scope, receive, send)
            return
        context = request_context(scope)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"request-id", context.id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            if context.status:
                raise
            if not isinstance(error, DiptychError):
                log.exception("a request failed", extra={"id": context.id})
                error = DiptychError("internal error; see the log of the gateway")
            headers = [(b"content-type", b"application/json"), *error.headers]
            if error.status >= 500 and not isinstance(error, Busy):
                # Otherwise clients would repeat the request at once, with the same result.
                headers.append((b"x-should-retry", b"false"))
            await begin(send_with_id, error.status, headers)
            await more(send_with_id, encode(anthropic_error(error, context.id)))
            await end(send_with_id)
