"""Requests of the native API, routed to their model's runner; the response is the runner's own, byte for byte."""

import asyncio
from time import perf_counter
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.types import Receive, Scope, Send

from runner.errors import BadRequest, DiptychError
from runner.gateway.app import Gateway
from runner.gateway.fitness import check_native
from runner.gateway.lease import Lease
from runner.gateway.responses import begin, cancel_on_disconnect, end, more
from runner.gateway.schemas import Loading
from runner.http.middleware import request_context
from runner.http.operation import NDJSON
from runner.process.client import ConnectionLost, Response
from runner.process.responses import error_from, read_object
from runner.protocol.duration import Duration
from runner.protocol.text import Failed, encode, line, parse, read_json
from runner.units import parse_duration

FORWARDED_HEADERS = ("content-type", "content-length", "retry-after", "cache-control")


class LoadRequest(Struct, frozen=True):
    """`keep_alive`: how long the model stays loaded afterwards, a duration or seconds; 0 unloads it, below 0 keeps it."""

    model: Annotated[str, Meta(min_length=1)]
    keep_alive: Duration | None = None


class RoutingFields(LoadRequest, frozen=True):
    """The fields that the gateway reads; the runner reads the rest. `progress`: also send events while loading."""

    progress: bool = False
    stream: bool = True


def parse_routing(raw: bytes) -> RoutingFields:
    try:
        return msgspec.json.decode(raw, type=RoutingFields)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Parse again, slower, for an error that names the field.
        body = read_json(raw)
        if body.get("model", "") == "":
            raise BadRequest(
                "model is missing; name a hub repo, a model in the Ollama store, or an alias"
            ) from None
        return parse(RoutingFields, body)


def keep_alive_seconds(keep_alive: str | float | None) -> float | None:
    """As in Ollama's API: a duration or a number of seconds; 0 unloads the model, below 0 keeps it."""
    if keep_alive is None:
        return None
    try:
        return parse_duration(keep_alive)
    except ValueError as error:
        raise BadRequest(f"keep_alive: {error}; 0 unloads the model at once, -1 keeps it loaded") from None


class ProxyResponse:
    """An ASGI response that relays the runner's."""

    def __init__(self, gateway: Gateway, path: str, raw: bytes, fields: RoutingFields) -> None:
        self._gateway = gateway
        self._path = path
        self._raw = raw
        self._fields = fields
        self._keep_alive = keep_alive_seconds(fields.keep_alive)
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await cancel_on_disconnect(scope, receive, self._proxy(scope, send))

    async def _proxy(self, scope: Scope, send: Send) -> None:
        start = perf_counter()
        id = request_context(scope).id
        try:
            lease = await self._lease(id, send)
            answer = await lease.send("POST", self._path, self._raw, [("x-request-id", id)])
            try:
                if self._started and answer.status != 200:
                    raise error_from(answer, await read_object(answer))
                await self._relay(answer, lease, send, start)
            finally:
                answer.close()
        except DiptychError as error:
            if not self._started:
                raise
            await more(send, line(Failed(error.message)))
        await end(send)

    async def _relay(self, answer: Response, lease: Lease, send: Send, start: float) -> None:
        first = True
        try:
            async for chunk in answer.chunks():
                if first:
                    self._gateway.metrics.first.observe(perf_counter() - start)
                    first = False
                    await self._start(send, answer.status, _headers(answer))
                await more(send, chunk)
        except ConnectionLost as error:
            raise await lease.server.explain(error) from None
        if first:
            await self._start(send, answer.status, _headers(answer))

    async def _lease(self, id: str, send: Send) -> Lease:
        acquire, fields = self._gateway.pool.acquire, self._fields
        check_native(await self._gateway.pool.resolve(fields.model), self._path, self._raw)
        if not (fields.progress and fields.stream):
            return await acquire(fields.model, self._keep_alive, id=id)
        updates: asyncio.Queue[float | None] = asyncio.Queue()
        acquiring = asyncio.ensure_future(
            acquire(fields.model, self._keep_alive, id=id, on_progress=updates.put_nowait)
        )
        acquiring.add_done_callback(lambda _: updates.put_nowait(None))
        try:
            while (progress := await updates.get()) is not None:
                await self._start(send, 200, [(b"content-type", NDJSON.encode())])
                await more(send, encode(Loading(round(progress, 3))) + b"\n")
        except BaseException:
            acquiring.cancel()
            acquiring.add_done_callback(_release)
            raise
        return acquiring.result()

    async def _start(self, send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        if not self._started:
            self._started = True
            await begin(send, status, headers)


def _release(acquiring: "asyncio.Future[Lease]") -> None:
    """Release a lease that was granted after its client had left."""
    if not acquiring.cancelled() and acquiring.exception() is None:
        acquiring.result().release()


def _headers(answer: Response) -> list[tuple[bytes, bytes]]:
    headers = answer.headers
    return [(name.encode(), headers[name].encode("latin-1")) for name in FORWARDED_HEADERS if name in headers]
