"""The gateway as a whole, and its HTTP face put together from its dialects."""

import importlib

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from runner.gateway.access import Cors, access
from runner.gateway.budget import default_budget
from runner.gateway.lease import Lease
from runner.gateway.metrics import GatewayMetrics
from runner.gateway.paths import Paths
from runner.gateway.pool import Pool
from runner.gateway.resolver import Names
from runner.gateway.settings import Settings
from runner.http.middleware import Around
from runner.http.old_http import OldHttp
from runner.http.openapi import Document
from runner.process.supervisor import Report

# Each has `routes(gateway)`, and may have `middleware`. Earlier ones win where two want the same path.
DIALECTS = (
    "runner.gateway.native",
    "runner.api.page",
    "runner.api.openai.routes",
    "runner.api.ollama.routes",
)


class Gateway:
    """What dialects see: models by name, and what there is to count."""

    def __init__(self, settings: Settings) -> None:
        budget, self.budget_from = default_budget()
        if settings.memory is not None:
            budget, self.budget_from = settings.memory, "--memory"
        self.settings = settings
        self.metrics = GatewayMetrics()
        self.names = Names(settings)
        self.pool = Pool(settings, budget, self.names, self.metrics)
        self._add_gauges()

    async def model(
        self,
        name: str,
        keep_alive: float | None = None,
        *,
        on_progress: Report = lambda progress: None,
        id: str = "",
    ) -> Lease:
        """The use of the model that a client's name means, once it is loaded: `async with await gateway.model(…)`.

        `keep_alive` is in seconds, 0 for now, below 0 for good. With `id` the request can be cancelled while it waits.
        Raises the errors of runner/errors.py; cancelling the caller gives up its place in the queue.
        """
        return await self.pool.acquire(name, keep_alive, on_progress, id)

    def asgi(self) -> ASGIApp:
        dialects = [importlib.import_module(dialect) for dialect in DIALECTS]
        routes = Document("Diptych", [route for one in dialects for route in one.routes(self)]).routes
        own = [Middleware(one) for dialect in dialects for one in getattr(dialect, "middleware", ())]
        app = Starlette(
            routes=routes,
            middleware=[
                Middleware(OldHttp),
                Middleware(Cors, settings=self.settings),
                Middleware(Around, metrics=self.metrics),
                *own,
                Middleware(access, settings=self.settings),
            ],
            exception_handlers={HTTPException: Paths(routes).answer},
        )
        app.router.redirect_slashes = False  # clients drop a body on the way; there is nothing at /chat/
        return app

    def _add_gauges(self) -> None:
        gauge, pool = self.metrics.gauge, self.pool
        gauge("diptych_models", "Models loaded", lambda: len(pool.running))
        gauge("diptych_memory_bytes", "What models are taken to hold", lambda: pool.held)
        gauge("diptych_memory_budget_bytes", "What models may hold", lambda: pool.budget)
        gauge("diptych_queue", "Requests waiting for their model", lambda: pool.queued)
        gauge("diptych_active", "Requests that runners work on", lambda: pool.active)
