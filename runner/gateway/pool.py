"""Leases on models: granted at once when loaded, queued otherwise. Loads run concurrently where memory allows.

All state changes on the event loop, between awaits, so there are no locks. Only `_work` makes room and begins loads.
"""

import asyncio
import logging
import time
from contextlib import suppress

from runner.errors import Busy, DiptychError, RunnerFailed
from runner.gateway.admission import Admission
from runner.gateway.backend import Launcher
from runner.gateway.fleet import Fleet
from runner.gateway.lease import Lease, LoadedModel, Phase
from runner.gateway.load_queue import LoadQueue, LoadTicket
from runner.gateway.metrics import GatewayMetrics
from runner.gateway.resolver import ModelResolver, ResolvedModel
from runner.gateway.settings import Settings
from runner.http import tracing
from runner.process.supervisor import Report

log = logging.getLogger("diptych.gateway")


class Pool:
    def __init__(
        self,
        settings: Settings,
        budget: int,
        resolver: ModelResolver,
        launcher: Launcher,
        metrics: GatewayMetrics,
    ) -> None:
        self._resolver = resolver
        self._metrics = metrics
        self._admission = Admission(budget, settings.max_loaded, settings.force)
        self._changed = asyncio.Event()
        self._fleet = Fleet(settings, launcher, metrics, self._changed.set)
        self._queue = LoadQueue(settings.queue)
        # The names under which loaded models were requested: they need not be resolved again.
        self._resolved: dict[str, ResolvedModel] = {}
        self._closing = False
        self._worker: asyncio.Task[None] | None = None
        self._loads: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._worker = asyncio.get_running_loop().create_task(self._work())

    # -- requests

    async def acquire(
        self,
        name: str,
        keep_alive: float | None = None,
        on_progress: Report = lambda progress: None,
        id: str = "",
    ) -> Lease:
        """A lease, once the model is loaded. Cancelling gives up the place in the queue."""
        model = await self.resolve(name)
        if self._closing:
            raise Busy("the server is stopping", retry_after=5)
        loaded = self._fleet.of(model)
        if loaded is not None and loaded.admits:
            return self._lease(loaded, keep_alive)
        self._fleet.check(model)
        ticket = self._queue.add(model, keep_alive, on_progress, id)
        self._changed.set()
        try:
            with tracing.step("load", model=name):
                return await ticket.lease
        except asyncio.CancelledError:
            _release(ticket)
            raise
        finally:
            self._queue.remove(ticket)
            self._changed.set()
            self._metrics.wait_seconds.observe(time.monotonic() - ticket.since)

    async def resolve(self, name: str) -> ResolvedModel:
        """The model with this name. One that is loaded under the name is not resolved again."""
        if (loaded := self.loaded_as(name)) is not None:
            return loaded
        model = await self._resolver.resolve(name)
        self._resolved = {one: other for one, other in self._resolved.items() if self._fleet.of(other)}
        self._resolved[name] = model
        return model

    def loaded_as(self, name: str) -> ResolvedModel | None:
        """The loaded model that was last requested under exactly this name."""
        called = self._resolved.get(name)
        loaded = self._fleet.of(called) if called is not None else None
        return loaded.model if loaded is not None else None

    @property
    def only_name(self) -> str | None:
        """A name of the loaded model, if there is just one."""
        if len(self.loaded) != 1:
            return None
        model = self.loaded[0].model
        return next((name for name in self._resolved if self.loaded_as(name) is model), None)

    async def stop(self, name: str) -> LoadedModel | None:
        """Unload a model: at once when it is idle, otherwise as soon as it is. None when it is not loaded.

        Considers only loaded models, so that no name causes a request to the hub.
        """
        loaded = self._find_loaded(name)
        if loaded is None:
            return None
        loaded.stopping = True
        if loaded.phase is Phase.LOADING:
            await loaded.backend.kill("it was stopped while it loaded")
        elif loaded.idle:
            await self._fleet.unload(loaded, "stopped")
        return loaded

    async def cancel(self, id: str) -> bool:
        """Cancel the requests with this id, waiting or in flight; whether there were any."""
        cancelled = self._queue.cancel(id)
        for loaded in self._fleet.all:
            if loaded.phase is Phase.READY and loaded.active:
                with suppress(DiptychError):
                    cancelled |= await loaded.backend.cancel(id)
        return cancelled

    @property
    def closing(self) -> bool:
        return self._closing

    @property
    def loaded(self) -> list[LoadedModel]:
        return self._fleet.all

    @property
    def budget(self) -> int:
        return self._admission.budget

    @property
    def held(self) -> int:
        """Bytes that models hold, by their estimates or reports."""
        return sum(loaded.held for loaded in self._fleet.all)

    @property
    def active(self) -> int:
        return sum(loaded.active for loaded in self._fleet.all)

    @property
    def queued(self) -> int:
        return len(self._queue)

    def waiting_for(self, model: ResolvedModel) -> int:
        return len(self._queue.of(model))

    async def close(self, grace: float) -> None:
        """Accept nothing new, give requests in flight `grace` seconds, then unload everything."""
        self._closing = True
        self._resolver.close()
        self._queue.fail_all(Busy("the server is stopping", retry_after=5))
        await self._fleet.stop_loading("the server is stopping")
        if self._loads:
            await asyncio.wait(self._loads, timeout=grace)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self.active:
                    await self._change()
        await self._fleet.close()
        if self._worker is not None:
            self._worker.cancel()

    # -- leases

    def _lease(self, loaded: LoadedModel, keep_alive: float | None) -> Lease:
        loaded.stop_timer()
        loaded.active += 1
        if keep_alive is not None:
            loaded.keep_alive = keep_alive
        return Lease(loaded, self._give_back)

    def _give_back(self, loaded: LoadedModel) -> None:
        loaded.active -= 1
        loaded.used = time.monotonic()
        self._on_idle(loaded)
        self._changed.set()

    def _on_idle(self, loaded: LoadedModel) -> None:
        """Unload a model without requests now, after its keep_alive, or not at all."""
        if not loaded.idle or self._closing:
            return
        loaded.stop_timer()
        if loaded.stopping:
            self._fleet.unload_soon(loaded, "stopped")
        elif loaded.keep_alive >= 0:
            later = asyncio.get_running_loop().call_later
            loaded.timer = later(loaded.keep_alive, self._fleet.unload_soon, loaded, "expired")

    def _grant(self, loaded: LoadedModel) -> None:
        """Grant all tickets for this model."""
        for ticket in self._queue.of(loaded.model):
            ticket.lease.set_result(self._lease(loaded, ticket.keep_alive))

    # -- loading

    async def _work(self) -> None:
        """Serve the oldest ticket whose model is not being loaded yet, again and again."""
        while not self._closing:
            for loaded in self._fleet.all:
                if loaded.admits:
                    self._grant(loaded)
            ticket = self._queue.first(lambda model: not self._is_loading(model))
            if ticket is None:
                await self._change()
            else:
                await self._serve(ticket.model)

    async def _serve(self, model: ResolvedModel) -> None:
        try:
            self._fleet.check(model)
            self._admission.check(model)
            if await self._make_room(model):
                self._begin(model)
        except Exception as error:
            self._fail(model, error)

    def _fail(self, model: ResolvedModel, error: Exception) -> None:
        if not isinstance(error, DiptychError):
            log.error("%s could not be loaded", model.name, exc_info=error)
            error = RunnerFailed(f"{type(error).__name__}: {error}")
        self._queue.fail(model, error)

    async def _make_room(self, model: ResolvedModel) -> bool:
        """Unload others until the model fits. False when no ticket for it is left.

        Idle models go first, least recently used first. If that is not enough, busy ones accept no new requests, the
        longest loaded first, until those in flight are done: requests are served in the order of their arrival.
        """
        needs = self._admission.needs(model)
        try:
            while self._queue.of(model) and not self._closing:
                if self._fleet.of(model) is not None:
                    await self._change()  # the previous backend is still ending
                    continue
                others = self._fleet.all
                if self._admission.fits(needs, others):
                    return True
                idle = [loaded for loaded in others if loaded.idle]
                if idle:
                    await self._fleet.unload(min(idle, key=lambda loaded: loaded.used), "evicted")
                    continue
                going = self._admission.to_evict(needs, others)
                for loaded in others:
                    loaded.evicting = loaded in going
                await self._change()
            return False
        finally:
            for loaded in self._fleet.all:
                loaded.evicting = False

    def _begin(self, model: ResolvedModel) -> None:
        """Load in a task: a load that hangs delays only requests for this model, or for the memory it was given."""
        loaded = self._fleet.add(model, self._admission.needs(model), self._admission.options(model))
        load = asyncio.get_running_loop().create_task(self._load(loaded))
        self._loads.add(load)
        load.add_done_callback(self._loads.discard)

    async def _load(self, loaded: LoadedModel) -> None:
        model = loaded.model
        try:
            await self._fleet.load(loaded, lambda progress: self._queue.report_progress(model, progress))
        except Exception as error:
            self._fail(model, error)
        else:
            self._admission.learn(loaded)
            self._grant(loaded)
            self._on_idle(loaded)
        finally:
            self._changed.set()

    def _is_loading(self, model: ResolvedModel) -> bool:
        loaded = self._fleet.of(model)
        return loaded is not None and loaded.phase is Phase.LOADING

    # -- helpers

    def _find_loaded(self, name: str) -> LoadedModel | None:
        """The loaded model with this name, in any spelling."""
        called = self._resolved.get(name)
        if called is not None and (loaded := self._fleet.of(called)) is not None:
            return loaded
        by_argument = {loaded.model.argument: loaded for loaded in self._fleet.all}
        return next((by_argument[one] for one in self._resolver.arguments(name) if one in by_argument), None)

    async def _change(self) -> None:
        """Wait until a backend has ended or reported, or a request has arrived or left."""
        self._changed.clear()
        await self._changed.wait()


def _release(ticket: LoadTicket) -> None:
    """Release a lease that was granted at the moment its client left."""
    if ticket.lease.done() and not ticket.lease.cancelled() and ticket.lease.exception() is None:
        ticket.lease.result().release()
