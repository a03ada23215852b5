"""Who gets which model when. Loads go on side by side where memory allows, while the loaded ones serve.

Everything happens on the event loop, between awaits: there are no locks. `_work` alone makes room and begins loads.
"""

import asyncio
import logging
import time
from contextlib import suppress

from runner.errors import Busy, DiptychError, RunnerFailed
from runner.gateway.admission import Admission
from runner.gateway.fleet import Fleet
from runner.gateway.lease import Lease, Phase, Running
from runner.gateway.load_queue import Ticket, Waiting
from runner.gateway.metrics import GatewayMetrics
from runner.gateway.resolver import Known, Names
from runner.gateway.settings import Settings
from runner.process.supervisor import Report

log = logging.getLogger("diptych.gateway")


class Pool:
    def __init__(self, settings: Settings, budget: int, names: Names, metrics: GatewayMetrics) -> None:
        self._names = names
        self._metrics = metrics
        self._admission = Admission(budget, settings.max_loaded, settings.force)
        self._changed = asyncio.Event()
        self._fleet = Fleet(settings, metrics, self._changed.set)
        self._waiting = Waiting(settings.queue)
        # The names under which what is loaded was asked for: they need no looking up.
        self._called: dict[str, Known] = {}
        self._closing = False
        self._worker: asyncio.Task[None] | None = None
        self._loads: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._worker = asyncio.get_running_loop().create_task(self._work())

    # -- what others ask

    async def acquire(
        self,
        name: str,
        keep_alive: float | None = None,
        on_progress: Report = lambda progress: None,
        id: str = "",
    ) -> Lease:
        """The use of a model, once it is loaded. Cancelling gives up the place in the queue."""
        known = await self.resolve(name)
        if self._closing:
            raise Busy("the server is stopping", retry_after=5)
        running = self._fleet.of(known)
        if running is not None and running.admits:
            return self._lease(running, keep_alive)
        self._fleet.check(known)
        ticket = self._waiting.add(known, keep_alive, on_progress, id)
        self._changed.set()
        try:
            return await ticket.lease
        except asyncio.CancelledError:
            _return(ticket)
            raise
        finally:
            self._waiting.remove(ticket)
            self._changed.set()
            self._metrics.wait_seconds.observe(time.monotonic() - ticket.since)

    async def resolve(self, name: str) -> Known:
        """The model that a name means. A model loaded under this name is not looked up again."""
        if (loaded := self.loaded_as(name)) is not None:
            return loaded
        known = await self._names.look_up(name)
        self._called = {one: other for one, other in self._called.items() if self._fleet.of(other)}
        self._called[name] = known
        return known

    def loaded_as(self, name: str) -> Known | None:
        """The loaded model that was last requested under exactly this name."""
        called = self._called.get(name)
        running = self._fleet.of(called) if called is not None else None
        return running.known if running is not None else None

    async def stop(self, name: str) -> Running | None:
        """End a model: at once when it is idle, else as soon as it is. None when it is not loaded.

        Looks at what is loaded and nowhere else: no name is worth a question to the hub here.
        """
        running = self._loaded(name)
        if running is None:
            return None
        running.stopping = True
        if running.phase is Phase.LOADING:
            await running.server.kill("it was stopped while it loaded")
        elif running.idle:
            await self._fleet.end(running, "stopped")
        return running

    async def cancel(self, id: str) -> bool:
        """Stop the requests of this id, waiting or in flight; whether there were any."""
        found = self._waiting.cancel(id)
        for running in self._fleet.all:
            if running.phase is Phase.READY and running.active:
                with suppress(DiptychError):
                    found |= await running.server.cancel(id)
        return found

    @property
    def closing(self) -> bool:
        return self._closing

    @property
    def running(self) -> list[Running]:
        return self._fleet.all

    @property
    def budget(self) -> int:
        return self._admission.budget

    @property
    def held(self) -> int:
        """Bytes that models are taken to hold."""
        return sum(running.held for running in self._fleet.all)

    @property
    def active(self) -> int:
        return sum(running.active for running in self._fleet.all)

    @property
    def queued(self) -> int:
        return len(self._waiting)

    def waiting_for(self, known: Known) -> int:
        return len(self._waiting.of(known))

    async def close(self, grace: float) -> None:
        """No new work; what is in flight gets so many seconds; then every runner ends."""
        self._closing = True
        self._names.close()
        self._waiting.refuse_all(Busy("the server is stopping", retry_after=5))
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

    def _lease(self, running: Running, keep_alive: float | None) -> Lease:
        running.stop_timer()
        running.active += 1
        if keep_alive is not None:
            running.keep_alive = keep_alive
        return Lease(running, self._give_back)

    def _give_back(self, running: Running) -> None:
        running.active -= 1
        running.used = time.monotonic()
        self._rest(running)
        self._changed.set()

    def _rest(self, running: Running) -> None:
        """When nobody uses it, it goes now, later, or stays."""
        if not running.idle or self._closing:
            return
        running.stop_timer()
        if running.stopping:
            self._fleet.end_soon(running, "stopped")
        elif running.keep_alive >= 0:
            later = asyncio.get_running_loop().call_later
            running.timer = later(running.keep_alive, self._fleet.end_soon, running, "expired")

    def _grant(self, running: Running) -> None:
        """Let in everybody who waits for this one."""
        for ticket in self._waiting.of(running.known):
            ticket.lease.set_result(self._lease(running, ticket.keep_alive))

    # -- the one that makes room

    async def _work(self) -> None:
        """Serve the one who has waited longest, again and again."""
        while not self._closing:
            for running in self._fleet.all:
                if running.admits:
                    self._grant(running)
            ticket = self._waiting.first(lambda known: not self._is_loading(known))
            if ticket is None:
                await self._change()
            else:
                await self._serve(ticket.known)

    async def _serve(self, known: Known) -> None:
        try:
            self._fleet.check(known)
            self._admission.check(known)
            if await self._make_room(known):
                self._begin(known)
        except Exception as error:
            self._refuse(known, error)

    def _refuse(self, known: Known, error: Exception) -> None:
        if not isinstance(error, DiptychError):
            log.error("%s could not be loaded", known.name, exc_info=error)
            error = RunnerFailed(f"{type(error).__name__}: {error}")
        self._waiting.refuse(known, error)

    async def _make_room(self, known: Known) -> bool:
        """End others until the model fits. False when nobody waits for it any more.

        Idle ones go first, the least recently used before the others. If that is not enough, busy ones let nobody new
        in, the longest loaded first, until what they have in flight is done: who came first is served first.
        """
        needs = self._admission.needs(known)
        try:
            while self._waiting.of(known) and not self._closing:
                if self._fleet.of(known) is not None:
                    await self._change()  # its former life is still ending
                    continue
                others = self._fleet.all
                if self._admission.fits(needs, others):
                    return True
                idle = [running for running in others if running.idle]
                if idle:
                    await self._fleet.end(min(idle, key=lambda running: running.used), "evicted")
                    continue
                going = self._admission.in_the_way(needs, others)
                for running in others:
                    running.wanted = running in going
                await self._change()
            return False
        finally:
            for running in self._fleet.all:
                running.wanted = False

    def _begin(self, known: Known) -> None:
        """Load it aside: one that hangs keeps only those waiting who want it, or the memory that it was given."""
        running = self._fleet.begin(known, self._admission.needs(known), self._admission.options(known))
        load = asyncio.get_running_loop().create_task(self._load(running))
        self._loads.add(load)
        load.add_done_callback(self._loads.discard)

    async def _load(self, running: Running) -> None:
        known = running.known
        try:
            await self._fleet.load(running, lambda progress: self._waiting.tell(known, progress))
        except Exception as error:
            self._refuse(known, error)
        else:
            self._admission.learn(running)
            self._grant(running)
            self._rest(running)
        finally:
            self._changed.set()

    def _is_loading(self, known: Known) -> bool:
        running = self._fleet.of(known)
        return running is not None and running.phase is Phase.LOADING

    # -- small things

    def _loaded(self, name: str) -> Running | None:
        """What is loaded under a name, however that is written."""
        called = self._called.get(name)
        if called is not None and (running := self._fleet.of(called)) is not None:
            return running
        found = {running.known.argument: running for running in self._fleet.all}
        return next((found[argument] for argument in self._names.arguments(name) if argument in found), None)

    async def _change(self) -> None:
        """Until something ends, or comes, or tells what it holds."""
        self._changed.clear()
        await self._changed.wait()


def _return(ticket: Ticket) -> None:
    """A lease that came at the moment its client left."""
    if ticket.lease.done() and not ticket.lease.cancelled() and ticket.lease.exception() is None:
        ticket.lease.result().release()
