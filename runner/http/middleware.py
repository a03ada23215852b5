"""ASGI middleware for every request: its id, log line, metrics and JSON errors; buffering for HTTP/1.0 clients."""

import logging
import re
import time
import uuid
from collections.abc import MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.errors import DiptychError
from runner.http import tracing
from runner.http.metrics import HttpMetrics
from runner.logs import REQUEST_FAILED
from runner.panics import is_failure
from runner.protocol.text import encode

log = logging.getLogger("diptych.http")

CLIENT_LEFT = "client left"
# Polled by monitoring and by the web page.
QUIET = ("/health", "/healthz", "/livez", "/readyz", "/metrics", "/models", "/v1/status", "/page/{name}")

ID = re.compile(r"[\x21-\x7e]{1,200}")


class RequestContext:
    """One request while it is served, at `scope["request_context"]`."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.start = time.perf_counter()
        self.status = 0
        self.tokens: int | None = None
        self.note = ""
        self.span: tracing.Span | None = None


def request_context(scope: MutableMapping[str, Any]) -> RequestContext:
    context = scope["request_context"]
    assert isinstance(context, RequestContext)
    return context


class RequestContextMiddleware:
    """One plain function call per message: streaming costs nothing extra."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = RequestContext(_request_id(scope))
        scope["request_context"] = context
        if tracing.enabled() and scope["path"] not in QUIET:
            context.span = tracing.Span(scope["method"], scope["headers"])

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                message.setdefault("headers", [])
                message["headers"] = [*message["headers"], (b"x-request-id", context.id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except DiptychError as error:
            if context.status:  # too late for a status: the stream has reported the error
                raise
            await send_error(send_with_id, error.status, error.message, error.headers)
        except BaseException as error:
            if not is_failure(error):
                raise
            log.exception(REQUEST_FAILED, extra={"id": context.id})
            if context.status:
                raise
            await send_error(send_with_id, 500, "internal error; see the server's log")
        finally:
            self._finish(scope, context)

    def _finish(self, scope: Scope, context: RequestContext) -> None:
        took = time.perf_counter() - context.start
        route = getattr(scope.get("route"), "path", None) or "unknown"
        status = context.status or 499
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(took)
        if context.note == CLIENT_LEFT:
            self._metrics.cancelled.inc()
        quiet = route in QUIET and context.status in (200, 304, 503)
        if context.span is not None:
            facts = {
                "url.path": _printable(scope["path"]),
                "diptych.request_id": context.id,
                "diptych.note": context.note,
            }
            context.span.end(f"{scope['method']} {route}", status, facts)
        tokens = "" if context.tokens is None else f" {context.tokens} tokens"
        log.log(
            logging.DEBUG if quiet else logging.INFO,
            "%s %s %s %.0f ms%s%s id=%s",
            scope["method"],
            _printable(scope["path"]),
            status,
            took * 1e3,
            tokens,
            f" {context.note}" if context.note else "",
            context.id,
            extra={
                "id": context.id,
                "method": scope["method"],
                "route": route,
                "status": status,
                "took_ms": round(took * 1e3, 2),
                "tokens": context.tokens,
            },
        )


async def send_error(
    send: Send, status: int, message: str, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """A complete JSON error response."""
    body = encode({"error": message})
    start = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": start + (headers or [])})
    await send({"type": "http.response.body", "body": body})


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            if ID.fullmatch(text):
                return str(text)
    return uuid.uuid4().hex


def _printable(path: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in path[:200])


class Http10Middleware:
    """Buffers streams for HTTP/1.0 clients (some proxies), which do not know chunked transfer encoding."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        http10 = scope["type"] == "http" and scope.get("http_version") == "1.0"
        await self._app(scope, receive, _BufferedSend(send) if http10 else send)


class _BufferedSend:
    """Holds a response of unknown length back until it is complete."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._pieces: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if any(name.lower() == b"content-length" for name, _ in message["headers"]):
                await self._send(message)
            else:
                self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._pieces.append(message.get("body", b""))
            if not message.get("more_body"):
                await self._send_complete(self._start)

    async def _send_complete(self, start: Message) -> None:
        body = b"".join(self._pieces)
        headers = [*start["headers"], (b"content-length", str(len(body)).encode())]
        await self._send({**start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
