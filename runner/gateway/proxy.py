"""An answer that is the runner's own."""

import asyncio
from time import perf_counter

from starlette.types import Receive, Scope, Send

from runner.errors import DiptychError
from runner.gateway.addressing import Addressed, seconds
from runner.gateway.app import Gateway
from runner.gateway.lease import Lease
from runner.gateway.responses import begin, end, more, unless_left
from runner.gateway.schemas import Loading
from runner.http.middleware import exchange
from runner.http.operation import NDJSON
from runner.process.client import Answer, Broken
from runner.process.responses import error_from, read_object
from runner.protocol.text import Failed, encode, line


class PassOn:
    """An ASGI answer that is the runner's, byte by byte."""

    def __init__(self, gateway: Gateway, path: str, raw: bytes, asked: Addressed) -> None:
        self._gateway = gateway
        self._path = path
        self._raw = raw
        self._asked = asked
        self._keep_alive = seconds(asked.keep_alive)
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await unless_left(scope, receive, self._pass_on(scope, send))

    async def _pass_on(self, scope: Scope, send: Send) -> None:
        since = perf_counter()
        id = exchange(scope).id
        try:
            lease = await self._lease(id, send)
            answer = await lease.send("POST", self._path, self._raw, [("x-request-id", id)])
            try:
                if self._begun and answer.status != 200:
                    raise error_from(answer, await read_object(answer))
                await self._relay(answer, lease, send, since)
            finally:
                answer.close()
        except DiptychError as error:
            if not self._begun:
                raise
            await more(send, line(Failed(error.message)))
        await end(send)

    async def _relay(self, answer: Answer, lease: Lease, send: Send, since: float) -> None:
        first = True
        try:
            async for chunk in answer.chunks():
                if first:
                    self._gateway.metrics.first.observe(perf_counter() - since)
                    first = False
                    await self._begin(send, answer.status, _headers(answer))
                await more(send, chunk)
        except Broken as error:
            raise await lease.server.broken(error) from None
        if first:
            await self._begin(send, answer.status, _headers(answer))

    async def _lease(self, id: str, send: Send) -> Lease:
        asked = self._asked
        if not (asked.progress and asked.stream):
            return await self._gateway.model(asked.model, self._keep_alive, id=id)
        heard: asyncio.Queue[float | None] = asyncio.Queue()
        waiting = asyncio.ensure_future(
            self._gateway.model(asked.model, self._keep_alive, id=id, on_progress=heard.put_nowait)
        )
        waiting.add_done_callback(lambda _: heard.put_nowait(None))
        try:
            while (progress := await heard.get()) is not None:
                await self._begin(send, 200, [(b"content-type", NDJSON.encode())])
                await more(send, encode(Loading(round(progress, 3))) + b"\n")
        except BaseException:
            waiting.cancel()
            waiting.add_done_callback(_release)
            raise
        return waiting.result()

    async def _begin(self, send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        if not self._begun:
            self._begun = True
            await begin(send, status, headers)


def _release(waiting: "asyncio.Future[Lease]") -> None:
    """The lease that came for a client who had left."""
    if not waiting.cancelled() and waiting.exception() is None:
        waiting.result().release()


def _headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    kept = ("content-type", "content-length", "retry-after", "cache-control")
    found = answer.headers
    return [(name.encode(), found[name].encode("latin-1")) for name in kept if name in found]
