"""The gateway: its resolver, pool and metrics, and the ASGI application assembled from the APIs that it is given."""

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from runner.errors import DiptychError, UnknownPath, WrongMethod
from runner.gallery.gallery import Gallery
from runner.gallery.picture import Limits as GalleryLimits
from runner.gateway.access import Cors, access
from runner.gateway.admission import default_budget
from runner.gateway.backend import Launcher
from runner.gateway.hops import Hops
from runner.gateway.launcher import ProcessLauncher
from runner.gateway.metrics import GatewayMetrics
from runner.gateway.not_offered import why_not_offered
from runner.gateway.pool import Pool
from runner.gateway.resolver import ModelResolver
from runner.gateway.settings import Settings
from runner.http.middleware import Http10Middleware, RequestContextMiddleware
from runner.http.openapi import Document
from runner.store.store import Store
from runner.store.threads import Limits

# Paths are cut to this length, also in messages.
LONGEST_PATH = 200


class Gateway:
    """What the APIs work with."""

    def __init__(self, settings: Settings, launcher: Launcher | None = None) -> None:
        """Without a launcher, models run as processes on this machine."""
        budget, self.budget_source = default_budget()
        if settings.memory is not None:
            budget, self.budget_source = settings.memory, "--memory"
        self.settings = settings
        self.metrics = GatewayMetrics()
        self.resolver = ModelResolver(settings)
        launcher = launcher or ProcessLauncher(settings, self.metrics)
        self.pool = Pool(settings, budget, self.resolver, launcher, self.metrics)
        limits = Limits(settings.store_size, settings.store_age)
        self.store = Store(limits) if settings.store else None
        bounds = GalleryLimits(settings.gallery_size, settings.gallery_pictures)
        self.gallery = Gallery(bounds) if settings.gallery else None
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._add_gauges()

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Call this when the gateway closes, before its store is closed."""
        self._closing.append(close)

    async def check_gallery(self) -> None:
        """Go without the gallery if it cannot be used."""
        if self.gallery is not None and not await self.gallery.check():
            gallery, self.gallery = self.gallery, None
            await gallery.close()

    async def close(self) -> None:
        """Once the pool is closed."""
        for close in self._closing:
            await close()
        if self.store is not None:
            await self.store.close()
        if self.gallery is not None:
            await self.gallery.close()

    def asgi(self, apis: "Sequence[Api]") -> ASGIApp:
        """Where two APIs have the same path, the earlier one wins; so does its middleware, which is the inner one."""
        routes = Document("Diptych", [route for api in apis for route in api.routes(self)]).routes
        app = Starlette(
            routes=routes,
            middleware=[
                Middleware(Http10Middleware),
                Middleware(Hops),
                Middleware(Cors, settings=self.settings),
                Middleware(RequestContextMiddleware, metrics=self.metrics),
                *(Middleware(one) for api in reversed(apis) for one in api.middleware),
                Middleware(access, settings=self.settings),
            ],
            exception_handlers={HTTPException: _RoutingErrors(routes).handle},
        )
        app.router.redirect_slashes = (
            False  # a redirected client drops its body, and no path of ours ends in /
        )
        return app

    def _add_gauges(self) -> None:
        gauge, pool = self.metrics.gauge, self.pool
        gauge("diptych_models", "Models loaded", lambda: len(pool.loaded))
        gauge("diptych_memory_bytes", "Memory held by models", lambda: pool.held)
        gauge("diptych_memory_budget_bytes", "Memory that models may hold", lambda: pool.budget)
        gauge("diptych_queue", "Requests waiting for their model", lambda: pool.queued)
        gauge("diptych_active", "Requests being processed by runners", lambda: pool.active)


@dataclass(frozen=True)
class Api:
    """One HTTP API of the gateway. Its `middleware` sees the requests of all APIs."""

    routes: Callable[[Gateway], list[BaseRoute]]
    middleware: tuple[Callable[..., Any], ...] = ()


class _RoutingErrors:
    """Turns Starlette's 404 and 405 into errors of ours, which each API renders in its own format."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        paths = dict.fromkeys(
            re.sub(r":\w+}", "}", route.path) for route in routes if isinstance(route, Route)
        )
        self._bigrams = [(path, _bigrams(path)) for path in paths]

    async def handle(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.url.path[:LONGEST_PATH]
        if error.status_code == 404:
            if why := why_not_offered(path):
                raise UnknownPath(f"{path} does not exist: {why}")
            raise UnknownPath(f"{path} does not exist; the nearest is {self._nearest(path)}")
        if error.status_code != 405:
            other = DiptychError(str(error.detail))
            other.status = error.status_code
            raise other
        allowed = ", ".join(sorted({*(error.headers or {})["Allow"].split(", "), "OPTIONS"}))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": allowed})
        raise WrongMethod(f"{path} does not support {request.method}; it supports {allowed}", allowed)

    def _nearest(self, path: str) -> str:
        """By shared bigrams: scanners cause thousands of 404s, and this takes 20 µs."""
        bigrams = _bigrams(path)

        def likeness(entry: tuple[str, set[str]]) -> float:
            shared = len(bigrams & entry[1])
            return shared / (len(bigrams) + len(entry[1]) - shared)

        return max(self._bigrams, key=likeness)[0]


def _bigrams(path: str) -> set[str]:
    return {path[at : at + 2] for at in range(max(1, len(path) - 1))}
