"""The native API through the gateway: as on a runner, with `model` in the body; and the loaded models."""

import asyncio
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from runner.errors import Busy
from runner.gateway.app import Gateway
from runner.gateway.default_model import read_named_body
from runner.gateway.lease import LoadedModel, Phase
from runner.gateway.model_load import runner_load
from runner.gateway.proxy import LoadRequest, ProxyResponse, RoutingFields, keep_alive_seconds, parse_routing
from runner.gateway.responses import cancel_on_disconnect
from runner.gateway.schemas import (
    Adapter,
    Adapters,
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
from runner.http import rules
from runner.http.bodies import PICTURES_LIMIT, JsonResponse, read_body
from runner.http.operation import operation
from runner.library.adapters import installed_adapters
from runner.protocol.image import (
    ImageChunk,
    ImageCompletionRequest,
    ImageDone,
    ImageStarted,
    ImageStep,
    ImageWhole,
)
from runner.protocol.text import (
    CancelRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    Failed,
    RenderedPrompt,
    ScoreDone,
    ScoreRequest,
    TextChunk,
    TextDone,
    TextRequest,
    TextWhole,
    TokenizeRequest,
    parse_body,
)
from runner.sources.adapters import AdapterSource

METRICS = "text/plain; version=0.0.4; charset=utf-8"
TEXT_EVENTS = [TextChunk, TextDone]
PICTURE_EVENTS = [ImageStarted, ImageStep, ImageChunk, ImageDone]

TEXT_RULES = (
    rules.either(
        rules.has("prompt", {"type": "string"}),
        rules.has("messages", {"type": "array", "minItems": 1}),
    ),
    rules.either(
        {"properties": {"tool_choice": {"enum": [None, "auto"]}}},
        rules.has("tools", {"type": "array", "minItems": 1}),
    ),
)


def routes(gateway: Gateway) -> list[BaseRoute]:
    native = Native(gateway)
    return [
        Route("/healthz", native.health),
        Route("/livez", native.health),
        Route("/readyz", native.ready),
        Route("/metrics", native.prometheus),
        Route("/models", native.models),
        Route("/loras", native.loras),
        Route("/models/load", native.load, methods=["POST"]),
        Route("/models/stop", native.stop, methods=["POST"]),
        Route("/cancel", native.cancel, methods=["POST"]),
        Route("/completion", native.completion, methods=["POST"]),
        Route("/apply-template", native.apply_template, methods=["POST"]),
        Route("/tokenize", native.tokenize, methods=["POST"]),
        Route("/detokenize", native.detokenize, methods=["POST"]),
        Route("/embedding", native.embedding, methods=["POST"]),
        Route("/score", native.score, methods=["POST"]),
    ]


class Native:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @operation("Check that the gateway is alive; needs no key", answer=Health)
    async def health(self, request: Request) -> Response:
        return JsonResponse(Health())

    @operation("Check that the models named at the start are loaded; needs no key", answer=Health)
    async def ready(self, request: Request) -> Response:
        gateway = self._gateway
        loaded = {one.model.argument for one in gateway.pool.loaded if one.phase is Phase.READY}
        names = gateway.settings.models
        missing = [name for name in names if loaded.isdisjoint(gateway.resolver.arguments(name))]
        if missing:
            raise Busy(f"not loaded: {', '.join(missing)}", retry_after=5)
        return JsonResponse(Health())

    @operation("Metrics in Prometheus format", plain=(METRICS,))
    async def prometheus(self, request: Request) -> Response:
        pool, metrics = self._gateway.pool, self._gateway.metrics
        models = list(pool.loaded)
        loads = await asyncio.gather(*map(runner_load, models))
        waiting = [pool.waiting_for(loaded.model) for loaded in models]
        metrics.model_loads.set(zip([loaded.model.name for loaded in models], waiting, loads, strict=True))
        return Response(metrics.text(), media_type=METRICS)

    @operation("List loaded models", answer=AllLoaded)
    async def models(self, request: Request) -> Response:
        pool = self._gateway.pool
        states = [state(loaded, pool.waiting_for(loaded.model)) for loaded in pool.loaded]
        return JsonResponse(AllLoaded(states, pool.budget, pool.held, pool.queued))

    @operation("List the adapters (LoRA) that requests for pictures may name", answer=Adapters)
    async def loras(self, request: Request) -> Response:
        source = AdapterSource(self._gateway.settings.loras)
        found = await asyncio.to_thread(installed_adapters, source)
        adapters = [Adapter(one.name, one.source, one.bytes, one.model) for one in found if one.fault is None]
        return JsonResponse(Adapters(adapters))

    @operation("Load a model; responds once it is loaded", body=LoadRequest, answer=Ready, asks=True)
    async def load(self, request: Request) -> Any:
        return Load(self._gateway, parse_routing(await read_body(request)))

    @operation("Unload a model", body=LoadRequest, answer=Stopped, asks=True)
    async def stop(self, request: Request) -> Response:
        routing = parse_routing(await read_body(request))
        keep_alive_seconds(routing.keep_alive)  # has no effect here, but is validated as everywhere
        loaded = await self._gateway.pool.stop(routing.model)
        if loaded is None:
            return JsonResponse(Stopped("not loaded"))
        return JsonResponse(Stopped("stopping" if loaded.active else "stopped"))

    @operation("Cancel the request with an X-Request-Id", body=CancelRequest, answer=Cancelled)
    async def cancel(self, request: Request) -> Response:
        id = parse_body(CancelRequest, await read_body(request)).id
        return JsonResponse(Cancelled(await self._gateway.pool.cancel(id)))

    @operation(
        "Generate text, or draw a picture",
        body=(RoutingFields, [TextRequest, ImageCompletionRequest]),
        rules=TEXT_RULES,
        answer=[TextWhole, ImageWhole],
        pieces=[Loading, *TEXT_EVENTS, *PICTURE_EVENTS],
        error_piece=Failed,
        asks=True,
    )
    async def completion(self, request: Request) -> Any:
        return await self._pass_on(request)

    @operation(
        "Show the prompt that a chat becomes, and its number of tokens",
        body=(RoutingFields, TextRequest),
        rules=TEXT_RULES,
        answer=RenderedPrompt,
        pieces=[Loading, RenderedPrompt],
        error_piece=Failed,
        asks=True,
    )
    async def apply_template(self, request: Request) -> Any:
        return await self._pass_on(request)

    @operation(
        "Tokenize text",
        body=(RoutingFields, TokenizeRequest),
        answer=Tokens,
        pieces=[Loading, Tokens],
        error_piece=Failed,
        asks=True,
    )
    async def tokenize(self, request: Request) -> Any:
        return await self._pass_on(request)

    @operation(
        "Detokenize tokens",
        body=(RoutingFields, DetokenizeRequest),
        answer=Content,
        pieces=[Loading, Content],
        error_piece=Failed,
        asks=True,
    )
    async def detokenize(self, request: Request) -> Any:
        return await self._pass_on(request)

    @operation(
        "Create embeddings",
        body=(RoutingFields, EmbeddingRequest),
        answer=[Vector, Vectors],
        pieces=[Loading, Vector, Vectors],
        error_piece=Failed,
        asks=True,
    )
    async def embedding(self, request: Request) -> Any:
        return await self._pass_on(request)

    @operation(
        "Score a prompt's own tokens",
        body=(RoutingFields, ScoreRequest),
        answer=ScoreDone,
        pieces=[Loading, ScoreDone],
        error_piece=Failed,
        asks=True,
    )
    async def score(self, request: Request) -> Any:
        return await self._pass_on(request)

    async def _pass_on(self, request: Request) -> Any:
        raw = await read_named_body(
            request, self._gateway, PICTURES_LIMIT
        )  # the runner enforces the smaller limit for text
        return ProxyResponse(self._gateway, request.url.path, raw, parse_routing(raw))


def state(loaded: LoadedModel, waiting: int) -> Loaded:
    """A loaded model as /models shows it."""
    backend, left = loaded.backend, loaded.expires
    until = None if left is None else datetime.now(UTC) + timedelta(seconds=min(left, 1e9))
    return Loaded(
        name=loaded.model.name,
        mode=loaded.model.mode,
        state=loaded.phase,
        progress=backend.progress,
        memory=loaded.held,
        context=backend.context_length,
        active=loaded.active,
        queue=waiting,
        idle_for=round(monotonic() - loaded.used, 3) if loaded.idle else None,
        keep_alive=loaded.keep_alive,
        until=until.isoformat(timespec="seconds") if until else None,
        pid=backend.pid,
        replicas=UNSET if backend.replicas is None else backend.replicas,
    )


class Load:
    """An ASGI response that waits until a model is loaded, and releases it at once."""

    def __init__(self, gateway: Gateway, routing: RoutingFields) -> None:
        self._gateway = gateway
        self._model = routing.model
        self._keep_alive = keep_alive_seconds(routing.keep_alive)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await cancel_on_disconnect(scope, receive, self._load(scope, receive, send))

    async def _load(self, scope: Scope, receive: Receive, send: Send) -> None:
        lease = await self._gateway.pool.acquire(self._model, self._keep_alive)
        lease.release()
        await JsonResponse(Ready(lease.name))(scope, receive, send)
