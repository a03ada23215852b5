"""Around every request: its id, its line in the log, its place in the metrics, its errors as JSON."""

import logging
import re
import time
import uuid
from collections.abc import MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.errors import DiptychError
from runner.http.metrics import HttpMetrics
from runner.logs import REQUEST_FAILED
from runner.panics import is_failure
from runner.protocol.text import encode

log = logging.getLogger("diptych.http")

LEFT = "client left"
# Asked for again and again by those who watch.
QUIET = ("/health", "/healthz", "/metrics", "/models", "/v1/status", "/page/{name}")

ID = re.compile(r"[\x21-\x7e]{1,200}")


class Exchange:
    """What is known of one request while it is served, at `scope["exchange"]`."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.began = time.perf_counter()
        self.status = 0
        self.tokens: int | None = None
        self.note = ""


def exchange(scope: MutableMapping[str, Any]) -> Exchange:
    found = scope["exchange"]
    assert isinstance(found, Exchange)
    return found


class Around:
    """ASGI middleware. A plain function call a message: streaming costs nothing extra."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        about = Exchange(_request_id(scope))
        scope["exchange"] = about

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                about.status = message["status"]
                message.setdefault("headers", [])
                message["headers"] = [*message["headers"], (b"x-request-id", about.id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except DiptychError as error:
            await self._answer(about, sending, error)
        except BaseException as error:
            if not is_failure(error):
                raise
            log.exception(REQUEST_FAILED, extra={"id": about.id})
            if about.status:
                raise
            await send_error(sending, 500, "internal error; the log of the runner says more")
        finally:
            self._finish(scope, about)

    async def _answer(self, about: Exchange, send: Send, error: DiptychError) -> None:
        if about.status:  # too late for a status: the stream has said what went wrong
            raise error
        await send_error(send, error.status, error.message, error.headers)

    def _finish(self, scope: Scope, about: Exchange) -> None:
        took = time.perf_counter() - about.began
        known = getattr(scope.get("route"), "path", None) or "unknown"
        self._metrics.requests.labels(known, str(about.status or 499)).inc()
        self._metrics.seconds.labels(known).observe(took)
        if about.note == LEFT:
            self._metrics.cancelled.inc()
        quiet = known in QUIET and about.status in (200, 304, 503)
        tokens = "" if about.tokens is None else f" {about.tokens} tokens"
        log.log(
            logging.DEBUG if quiet else logging.INFO,
            "%s %s %s %.0f ms%s%s id=%s",
            scope["method"],
            _printable(scope["path"]),
            about.status or 499,
            took * 1e3,
            tokens,
            f" {about.note}" if about.note else "",
            about.id,
            extra={
                "id": about.id,
                "method": scope["method"],
                "route": known,
                "status": about.status or 499,
                "took_ms": round(took * 1e3, 2),
                "tokens": about.tokens,
            },
        )


async def send_error(
    send: Send, status: int, message: str, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """An answer that is nothing but an error."""
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
