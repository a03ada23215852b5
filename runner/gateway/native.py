"""The native contract through the gateway: as on a runner, with `model` in the body; and what is loaded."""

import asyncio
from datetime import UTC, datetime, timedelta
from time import monotonic, perf_counter
from typing import Any

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from runner.bodies import PICTURES_LIMIT, read_body
from runner.client import Answer, Broken
from runner.durations import parse_duration
from runner.errors import BadRequest, DiptychError
from runner.gateway.answering import begin, end, more, unless_left
from runner.gateway.app import Gateway
from runner.gateway.replicas import Replicas
from runner.gateway.running import Lease, Running
from runner.middleware import exchange
from runner.protocol import CancelRequest, Failed, encode, line, parse, read_json

NDJSON = b"application/x-ndjson"
# As a runner takes them.
PASSED_ON = ("/completion", "/tokenize", "/detokenize", "/embedding")


class Addressed(Struct, frozen=True):
    """What the gateway reads of a body; the rest is the runner's."""

    model: str = ""
    keep_alive: str | float | None = None
    progress: bool = False
    stream: bool = True


def addressed(raw: bytes) -> Addressed:
    try:
        found = msgspec.json.decode(raw, type=Addressed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The slower way says what is wrong.
        found = parse(Addressed, read_json(raw))
    if not found.model:
        raise BadRequest("model is missing; name a hub repo, a model in the Ollama store, or an alias")
    return found


def seconds(keep_alive: str | float | None) -> float | None:
    """keep_alive as Ollama has it: a duration, 0 for now, below 0 for good."""
    if keep_alive is None:
        return None
    try:
        return parse_duration(keep_alive)
    except ValueError as error:
        raise BadRequest(f"keep_alive: {error}; 0 ends the model at once, -1 keeps it for good") from None


def routes(gateway: Gateway) -> list[BaseRoute]:
    native = Native(gateway)
    return [
        Route("/healthz", native.health),
        Route("/metrics", native.prometheus),
        Route("/models", native.models),
        Route("/models/load", native.load, methods=["POST"]),
        Route("/models/stop", native.stop, methods=["POST"]),
        Route("/cancel", native.cancel, methods=["POST"]),
        *(Route(path, native.pass_on, methods=["POST"]) for path in PASSED_ON),
    ]


class Native:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def health(self, request: Request) -> Response:
        return _json({"status": "ok"})

    async def prometheus(self, request: Request) -> Response:
        return Response(self._gateway.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def models(self, request: Request) -> Response:
        pool = self._gateway.pool
        return _json(
            {
                "models": [state(running, pool.waiting_for(running.known)) for running in pool.running],
                "budget": pool.budget,
                "memory": pool.held,
                "queue": pool.queued,
            }
        )

    async def load(self, request: Request) -> Any:
        return Load(self._gateway, addressed(await read_body(request)))

    async def stop(self, request: Request) -> Response:
        name = addressed(await read_body(request)).model
        running = await self._gateway.pool.stop(name)
        said = "not loaded" if running is None else "stopping" if running.active else "stopped"
        return _json({"status": said})

    async def cancel(self, request: Request) -> Response:
        id = parse(CancelRequest, read_json(await read_body(request))).id
        return _json({"cancelled": await self._gateway.pool.cancel(id)})

    async def pass_on(self, request: Request) -> Any:
        raw = await read_body(request, PICTURES_LIMIT)  # the runner says what is too much for a text
        return PassOn(self._gateway, request.url.path, raw, addressed(raw))


def state(running: Running, waiting: int) -> dict[str, Any]:
    """A loaded model as /models shows it."""
    left = running.expires
    until = None if left is None else datetime.now(UTC) + timedelta(seconds=min(left, 1e9))
    several = {"replicas": running.server.state()} if isinstance(running.server, Replicas) else {}
    return {
        "name": running.known.name,
        "mode": running.known.mode.value,
        "state": running.phase.value,
        "progress": running.server.progress,
        "memory": running.held,
        "context": running.server.context_length,
        "active": running.active,
        "queue": waiting,
        "idle_for": round(monotonic() - running.used, 3) if running.idle else None,
        "keep_alive": running.keep_alive,
        "until": until.isoformat(timespec="seconds") if until else None,
        "pid": running.server.pid,
        **several,
    }


class Load:
    """An ASGI answer that waits until a model is loaded; its use ends at once."""

    def __init__(self, gateway: Gateway, asked: Addressed) -> None:
        self._gateway = gateway
        self._asked = asked
        self._keep_alive = seconds(asked.keep_alive)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await unless_left(scope, receive, self._load(scope, receive, send))

    async def _load(self, scope: Scope, receive: Receive, send: Send) -> None:
        lease = await self._gateway.model(self._asked.model, self._keep_alive)
        lease.release()
        await _json({"status": "loaded", "model": lease.name})(scope, receive, send)


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
                await self._begin(send, 200, [(b"content-type", NDJSON)])
                await more(send, encode({"status": "loading", "progress": round(progress, 3)}) + b"\n")
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


def _json(value: Any) -> Response:
    return Response(encode(value), media_type="application/json")
