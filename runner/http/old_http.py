"""Clients that speak HTTP/1.0, some proxies among them, know no chunks: they get the same answer, all at once."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class OldHttp:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        old = scope["type"] == "http" and scope.get("http_version") == "1.0"
        await self._app(scope, receive, _Gathered(send) if old else send)


class _Gathered:
    """Holds an answer of unknown length back until it is whole."""

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
                await self._send_whole(self._start)

    async def _send_whole(self, start: Message) -> None:
        body = b"".join(self._pieces)
        headers = [*start["headers"], (b"content-length", str(len(body)).encode())]
        await self._send({**start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
