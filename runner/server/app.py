"""The runner's routes for its one model. No MLX: only the engine's worker uses it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from runner.engine.engine import Engine, State
from runner.errors import BadRequest
from runner.http.access import Access
from runner.http.bodies import LIMIT, PICTURES_LIMIT, JsonResponse, read_body
from runner.http.metrics import Metrics
from runner.http.middleware import RequestContextMiddleware
from runner.process.stalls import Activity
from runner.protocol.text import CancelRequest, parse_body
from runner.server.text_api import TextApi, TextService
from runner.sources.adapters import AdapterSource
from runner.sources.base import ModelMode
from runner.sources.controlnets import ControlNetSource

if TYPE_CHECKING:
    from runner.server.image_api import ImageApi, ImageService

# The status codes of the server that this API was modelled on.
STATUS = {State.READY: 0, State.LOADING: 3, State.FAILED: 5, State.CLOSED: 4}

SUCCESS = {"Success": True}

# In /v1/status by these names, in /metrics with diptych_ before them.
KV_DISK_GAUGES = {
    "kv_disk_bytes": "Bytes of keys and values on disk",
    "kv_disk_limit": "Bytes of keys and values that may be on disk (--kv-disk); 0: none",
    "kv_disk_files": "Blocks of keys and values on disk",
    "kv_disk_hits": "Blocks of keys and values read from disk, since the start",
    "kv_disk_written": "Blocks of keys and values written to disk, since the start",
    "kv_disk_damaged": "Files on disk that were damaged and have been removed, since the start",
}


class Loaded(Protocol):
    """What every worker reports about its model."""

    mode: ModelMode
    context: int
    notes: list[str]  # how it was loaded, and what to improve


class RunnerApp:
    """The HTTP interface of one model. `stop` ends the process as a signal would; `activity` shows whether a load is
    making progress; `adapters` and `controlnets` are those that requests for pictures may
    name."""

    def __init__(
        self,
        engine: Engine,
        model: str,
        stop: Callable[[], None],
        key: str | None = None,
        hosts: Sequence[str] = (),
        origins: Sequence[str] = (),
        activity: Activity | None = None,
        adapters: AdapterSource | None = None,
        controlnets: ControlNetSource | None = None,
    ) -> None:
        self._adapters = adapters or AdapterSource()
        self._controlnets = controlnets or ControlNetSource()
        self.engine = engine
        self._activity = activity
        self.model = model
        self.metrics = Metrics()
        self._stop = stop
        self._text = TextApi(engine, self.metrics)
        self._add_gauges()
        self._app = Starlette(
            routes=self._routes(),
            middleware=[
                Middleware(RequestContextMiddleware, metrics=self.metrics),
                Middleware(Access, keys=(key,) if key else (), hosts=hosts, origins=origins),
            ],
            exception_handlers={HTTPException: http_error},
        )
        self._app.router.redirect_slashes = False  # redirected clients drop the body

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["direct_send"] = send
        await self._app(scope, receive, send)

    def _routes(self) -> list[Route]:
        text = self._text
        return [
            Route("/health", self.health),
            Route("/v1/status", self.status),
            Route("/v1/models", self.models, methods=["GET", "POST", "DELETE"]),
            Route("/load", self.models, methods=["POST", "DELETE"]),
            Route("/completion", self.completion, methods=["POST"]),
            Route("/v1/completions", self.completion, methods=["POST"]),
            Route("/apply-template", self._for_text(text.apply_template), methods=["POST"]),
            Route("/tokenize", self._for_text(text.tokenize), methods=["POST"]),
            Route("/v1/tokenize", self._for_text(text.tokenize_plain), methods=["POST"]),
            Route("/detokenize", self._for_text(text.detokenize), methods=["POST"]),
            Route("/embedding", self._for_text(text.embedding), methods=["POST"]),
            Route("/rerank", self._for_text(text.rerank), methods=["POST"]),
            Route("/score", self._for_text(text.score), methods=["POST"]),
            Route("/cancel", self.cancel, methods=["POST"]),
            Route("/metrics", self.prometheus),
        ]

    # -- the model as a whole

    async def health(self, request: Request) -> Response:
        engine = self.engine
        if engine.state is State.READY:
            return answer({"status": "ok"})
        if engine.state is State.LOADING:
            idle = self._activity.idle(engine.progress) if self._activity else 0.0
            progress = round(engine.progress, 6)  # also for large models that download slowly
            return answer({"status": "loading", "progress": progress, "idle": round(idle, 1)}, 503)
        return answer({"status": "error", "error": engine.error or "the runner has stopped"}, 500)

    async def status(self, request: Request) -> Response:
        engine = self.engine
        stats = self._stats()
        loaded = cast("Loaded | None", engine.worker)
        return answer(
            {
                "Status": STATUS[engine.state],
                "Progress": int(engine.progress * 100),
                "ContextLength": loaded.context if loaded else 0,
                "Memory": stats.get("memory", 0),
                "mode": loaded.mode.value if loaded else None,
                "model": self.model,
                "notes": loaded.notes if loaded else [],
                "queue": engine.queued,
                "active": engine.active,
                "cache_bytes": stats.get("cache_bytes", 0),
                "cache_entries": stats.get("cache_entries", 0),
                "cache_limit": stats.get("cache_limit", 0),
                "kv_tokens": stats.get("kv_tokens", 0),
                "kv_limit": stats.get("kv_limit", 0),
                "preemptions": stats.get("preemptions", 0),
                "warming": stats.get("warming", False),
                "drafted": stats.get("drafted", 0),
                "accepted": stats.get("accepted", 0),
                **(_capabilities(loaded) if loaded else {}),
                **{name: stats.get(name, 0) for name in KV_DISK_GAUGES},
            }
        )

    async def models(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._stop()
            return answer(SUCCESS)
        if request.method == "POST":
            self.engine.require_ready()
            return answer(SUCCESS)
        loaded = cast("Loaded | None", self.engine.worker)
        entry = {"name": self.model, "mode": loaded.mode.value, "context": loaded.context} if loaded else None
        return answer({**SUCCESS, "models": [entry] if entry else []})

    async def prometheus(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    # -- work

    async def completion(self, request: Request) -> Any:
        worker = self.engine.require_ready()
        if cast(Loaded, worker).mode is ModelMode.IMAGE:
            return await self._image.completion(request, cast("ImageService", worker))
        service = cast(TextService, worker)
        raw = await read_body(request, PICTURES_LIMIT if service.prompts.sight.sees else LIMIT)
        return await self._text.completion(request, service, raw)

    @cached_property
    def _image(self) -> "ImageApi":
        # Imports NumPy and Pillow: late, so that the port opens sooner.
        from runner.server.image_api import ImageApi

        return ImageApi(self.engine, self.metrics, self._adapters, self._controlnets)

    async def cancel(self, request: Request) -> Response:
        id = parse_body(CancelRequest, await read_body(request)).id
        return answer({"cancelled": self.engine.cancel_id(id)})

    def _for_text(
        self, endpoint: Callable[[Request, TextService], Awaitable[Any]]
    ) -> Callable[[Request], Awaitable[Any]]:
        async def handle(request: Request) -> Any:
            worker = self.engine.require_ready()
            if cast(Loaded, worker).mode is not ModelMode.TEXT:
                raise BadRequest(
                    f"{request.url.path} is for language models; {self.model} makes pictures with POST /completion"
                )
            return await endpoint(request, cast(TextService, worker))

        return handle

    # -- numbers

    def _stats(self) -> dict[str, Any]:
        worker = self.engine.worker
        return worker.stats() if worker is not None and self.engine.state is State.READY else {}

    def _stat(self, name: str) -> Any:
        return self._stats().get(name, 0)

    def _add_gauges(self) -> None:
        engine, gauge = self.engine, self.metrics.gauge
        gauge("diptych_queue", "Requests waiting", lambda: engine.queued)
        gauge("diptych_active", "Requests being worked on", lambda: engine.active)
        gauge("diptych_memory_bytes", "What is held on the device", lambda: self._stats().get("memory", 0))
        gauge(
            "diptych_cache_bytes", "What the prefix cache holds", lambda: self._stats().get("cache_bytes", 0)
        )
        gauge(
            "diptych_kv_tokens",
            "Tokens of running texts whose keys and values are held",
            lambda: self._stats().get("kv_tokens", 0),
        )
        gauge(
            "diptych_kv_limit",
            "Tokens of running texts for which there is memory (--kv-memory); 0: no limit",
            lambda: self._stats().get("kv_limit", 0),
        )
        gauge(
            "diptych_preemptions",
            "Texts that gave their memory to older ones and were read again, since the start",
            lambda: self._stats().get("preemptions", 0),
        )
        for name, about in KV_DISK_GAUGES.items():
            gauge(f"diptych_{name}", about, partial(self._stat, name))
        gauge(
            "diptych_cache_entries",
            "Prompts in the prefix cache",
            lambda: self._stats().get("cache_entries", 0),
        )

    def close(self) -> None:
        self._text.close()
        if "_image" in vars(self):
            self._image.close()


def _capabilities(loaded: Loaded) -> dict[str, Any]:
    """Those of a picture model."""
    if loaded.mode is not ModelMode.IMAGE:
        return {}
    return asdict(cast("ImageService", loaded).pipeline.capabilities)


def answer(value: Any, status: int = 200) -> Response:
    headers = {"retry-after": "2"} if status == 503 else None
    return JsonResponse(value, status, headers)


async def http_error(request: Request, error: Exception) -> Response:
    """Starlette's own refusals (404, 405) as JSON."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        text = f"{request.url.path[:200]} does not exist"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        text = f"{request.url.path} does not support {request.method}; it supports {allowed}"
    else:
        text = str(error.detail)
    return JsonResponse({"error": text}, error.status_code, error.headers)
