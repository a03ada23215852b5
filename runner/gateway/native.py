"""The native contract through the gateway: as on a runner, with `model` in the body; and what is loaded."""

import asyncio
from datetime import UTC, datetime, timedelta
from time import monotonic, perf_counter
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from runner.answers import error_from, read_object
from runner.bodies import PICTURES_LIMIT, read_body
from runner.client import Answer, Broken
from runner.durations import Duration, parse_duration
from runner.errors import BadRequest, DiptychError
from runner.gateway.answering import begin, end, more, unless_left
from runner.gateway.app import Gateway
from runner.gateway.replicas import Replicas
from runner.gateway.running import Lease, Running
from runner.gateway.shapes import (
    AllLoaded,
    Cancelled,
    Content,
    Health,
    Loaded,
    Loading,
    Ready,
    Stopped,
    Tokens,
    Vector,
    Vectors,
)
from runner.image_protocol import DrawBegun, DrawDone, DrawnPart, DrawRequest, DrawStep, DrawWhole
from runner.middleware import exchange
from runner.operation import operation
from runner.protocol import (
    CancelRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    Failed,
    TextChunk,
    TextDone,
    TextRequest,
    TextWhole,
    TokenizeRequest,
    encode,
    line,
    parse,
    read_json,
)

NDJSON = b"application/x-ndjson"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
TEXT_EVENTS = [TextChunk, TextDone]
PICTURE_EVENTS = [DrawBegun, DrawStep, DrawnPart, DrawDone]


class LoadRequest(Struct, frozen=True):
    """`keep_alive`: a duration or seconds, 0 for not at all, below 0 for good."""

    model: Annotated[str, Meta(min_length=1)]
    keep_alive: Duration | None = None


class Addressed(LoadRequest, frozen=True):
    """What the gateway reads of a body; the rest is the runner's. `progress`: tell of the loading as well."""

    progress: bool = False
    stream: bool = True


def addressed(raw: bytes) -> Addressed:
    try:
        return msgspec.json.decode(raw, type=Addressed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The slower way says what is wrong.
        value = read_json(raw)
        if value.get("model", "") == "":
            raise BadRequest(
                "model is missing; name a hub repo, a model in the Ollama store, or an alias"
            ) from None
        return parse(Addressed, value)


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
        Route("/completion", native.completion, methods=["POST"]),
        Route("/tokenize", native.tokenize, methods=["POST"]),
        Route("/detokenize", native.detokenize, methods=["POST"]),
        Route("/embedding", native.embedding, methods=["POST"]),
    ]


class Native:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @operation("Whether the gateway lives; needs no key", answer=Health)
    async def health(self, request: Request) -> Response:
        return _json(Health())

    @operation("What there is to count, as Prometheus has it", plain=METRICS)
    async def prometheus(self, request: Request) -> Response:
        return Response(self._gateway.metrics.text(), media_type=METRICS)

    @operation("The models that are loaded", answer=AllLoaded)
    async def models(self, request: Request) -> Response:
        pool = self._gateway.pool
        states = [state(running, pool.waiting_for(running.known)) for running in pool.running]
        return _json(AllLoaded(states, pool.budget, pool.held, pool.queued))

    @operation("Load a model; answered once it is", body=LoadRequest, answer=Ready, asks=True)
    async def load(self, request: Request) -> Any:
        return Load(self._gateway, addressed(await read_body(request)))

    @operation("End a model", body=LoadRequest, answer=Stopped, asks=True)
    async def stop(self, request: Request) -> Response:
        name = addressed(await read_body(request)).model
        running = await self._gateway.pool.stop(name)
        if running is None:
            return _json(Stopped("not loaded"))
        return _json(Stopped("stopping" if running.active else "stopped"))

    @operation("Stop the request of an X-Request-Id", body=CancelRequest, answer=Cancelled)
    async def cancel(self, request: Request) -> Response:
        id = parse(CancelRequest, read_json(await read_body(request))).id
        return _json(Cancelled(await self._gateway.pool.cancel(id)))

    @operation(
        "Write a text, or draw a picture",
        body=(Addressed, [TextRequest, DrawRequest]),
        answer=[TextWhole, DrawWhole],
        pieces=[Loading, *TEXT_EVENTS, *PICTURE_EVENTS, Failed],
        asks=True,
    )
    async def completion(self, request: Request) -> Any:
        return await self._pass_on(request)

    @operation(
        "The tokens of a text",
        body=(Addressed, TokenizeRequest),
        answer=Tokens,
        pieces=[Loading, Tokens, Failed],
        asks=True,
    )
    async def tokenize(self, request: Request) -> Any:
        return await self._pass_on(request)

    @operation(
        "The text of tokens",
        body=(Addressed, DetokenizeRequest),
        answer=Content,
        pieces=[Loading, Content, Failed],
        asks=True,
    )
    async def detokenize(self, request: Request) -> Any:
        return await self._pass_on(request)

    @operation(
        "Texts as vectors",
        body=(Addressed, EmbeddingRequest),
        answer=[Vector, Vectors],
        pieces=[Loading, Vector, Vectors, Failed],
        asks=True,
    )
    async def embedding(self, request: Request) -> Any:
        return await self._pass_on(request)

    async def _pass_on(self, request: Request) -> Any:
        raw = await read_body(request, PICTURES_LIMIT)  # the runner says what is too much for a text
        return PassOn(self._gateway, request.url.path, raw, addressed(raw))


def state(running: Running, waiting: int) -> Loaded:
    """A loaded model as /models shows it."""
    left = running.expires
    until = None if left is None else datetime.now(UTC) + timedelta(seconds=min(left, 1e9))
    replicas = running.server.state() if isinstance(running.server, Replicas) else UNSET
    return Loaded(
        name=running.known.name,
        mode=running.known.mode,
        state=running.phase,
        progress=running.server.progress,
        memory=running.held,
        context=running.server.context_length,
        active=running.active,
        queue=waiting,
        idle_for=round(monotonic() - running.used, 3) if running.idle else None,
        keep_alive=running.keep_alive,
        until=until.isoformat(timespec="seconds") if until else None,
        pid=running.server.pid,
        replicas=replicas,
    )


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
        await _json(Ready(lease.name))(scope, receive, send)


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
                await self._begin(send, 200, [(b"content-type", NDJSON)])
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


def _json(value: Any) -> Response:
    return Response(encode(value), media_type="application/json")
