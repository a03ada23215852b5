"""Our HTTP server over a small application, in the test's own event loop."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from runner.http.bodies import read_body
from runner.http.limits import Limits
from runner.http.metrics import HttpMetrics
from runner.http.middleware import RequestContextMiddleware
from runner.http.server import HttpServer, bind, loop_factory
from tests.waiting import PATIENCE

HOST = b"Host: localhost\r\n"


class Application:
    """Answers with the size of the body and the names of the headers, or slowly: /stream takes five pieces."""

    def __init__(self) -> None:
        self.requests = 0
        self.open = asyncio.Event()  # what /later waits for before it reads
        self.open.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests += 1
        if scope["path"] == "/stream":
            await self._stream(send)
        elif scope["path"] == "/early":
            await self._whole(send, b"early")
        else:
            if scope["path"] == "/later":
                await self.open.wait()
            body = await read_body(Request(scope, receive))
            names = b",".join(name for name, _ in scope["headers"])
            await self._whole(send, b"%d bytes; %s" % (len(body), names))

    async def _whole(self, send: Send, body: bytes) -> None:
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(5):
            await send({"type": "http.response.body", "body": b"piece %d;" % number, "more_body": True})
            await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"end"})


class Client:
    """A socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    async def send(self, *pieces: bytes) -> None:
        """Whatever the peer thinks of it."""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                self.writer.write(piece)
                await self.writer.drain()

    async def rest(self) -> bytes:
        """All that comes until the peer closes, in whichever way."""
        pieces = []
        with contextlib.suppress(ConnectionError):
            while piece := await self._reader.read(65536):
                pieces.append(piece)
        return b"".join(pieces)

    async def answer(self) -> bytes:
        """Head and body of one answer that says how long it is."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return head + await self._reader.readexactly(length)


class Serving:
    def __init__(self, port: int, application: Application) -> None:
        self.port = port
        self.application = application
        self._clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.writer.close()


@contextlib.asynccontextmanager
async def _serving(limits: Limits) -> AsyncIterator[Serving]:
    application = Application()
    listener = bind("127.0.0.1", 0)
    server = HttpServer(RequestContextMiddleware(application, HttpMetrics()), limits)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    serving = Serving(listener.getsockname()[1], application)
    try:
        yield serving
    finally:
        serving.close()
        server.should_exit = True
        await task


def serve(main: Callable[[Serving], Awaitable[None]], **limits: float) -> None:
    """Run `main` against a server of these limits."""

    async def run() -> None:
        async with asyncio.timeout(PATIENCE), _serving(Limits(**{"stall": math.inf, **limits})) as serving:  # type: ignore[arg-type]
            await main(serving)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run())
