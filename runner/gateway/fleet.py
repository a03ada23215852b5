"""The runners that there are: started, looked after, ended. Knows nothing of who waits."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from typing import Any

from runner.clock import AwakeClock
from runner.errors import Busy, DiptychError, RunnerFailed
from runner.gateway.backoff import Holdoff
from runner.gateway.lease import Phase, Running
from runner.gateway.metrics import GatewayMetrics
from runner.gateway.replicas import Replicas
from runner.gateway.resolver import Known
from runner.gateway.settings import Settings
from runner.hardware import VISIBLE
from runner.process.supervisor import Report, Server
from runner.units import show_size

log = logging.getLogger("diptych.gateway")


class Fleet:
    """`on_change` is called whenever a runner has ended or has told what it holds."""

    def __init__(self, settings: Settings, metrics: GatewayMetrics, on_change: Callable[[], None]) -> None:
        self._settings = settings
        self._metrics = metrics
        self._on_change = on_change
        self._running: dict[str, Running] = {}
        self._holdoffs: dict[str, Holdoff] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def of(self, known: Known) -> Running | None:
        return self._running.get(known.argument)

    @property
    def all(self) -> list[Running]:
        return list(self._running.values())

    def check(self, known: Known) -> None:
        """Busy while a model whose runner keeps dying is held off."""
        holdoff = self._holdoff(known)
        seconds = holdoff.remaining(time.monotonic())
        if seconds > 0:
            raise Busy(
                f"the runner of {known.name} keeps dying; it is started again in {seconds:.0f} s at the earliest. "
                f"The last time: {holdoff.reason}",
                retry_after=int(seconds) + 1,
            )

    def begin(self, known: Known, needs: int, options: Sequence[str]) -> Running:
        """A place for a runner of that model, whose memory counts from now on; `load` starts it."""
        keep_alive = self._settings.keep_alive if known.keep_alive is None else known.keep_alive
        running = Running(known, self._server(known, options), needs, keep_alive)
        self._running[known.argument] = running
        return running

    async def load(self, running: Running, on_progress: Report) -> None:
        """Return when it is ready; what goes wrong is raised, and counts as a death."""
        known = running.known
        try:
            await running.server.start(on_progress)
        except BaseException as error:
            self._forget(running)
            if isinstance(error, RunnerFailed):
                if running.stopping:
                    raise Busy(f"{known.name} was stopped while it loaded; ask again to load it") from None
                self._died(running, error.message)
            raise
        took = time.monotonic() - running.began
        running.phase = Phase.READY
        running.report(running.server.memory_size)
        self._metrics.loads.labels(known.name).inc()
        self._metrics.load_seconds.observe(took)
        log.info("%s is loaded after %.1f s: %s", known.name, took, show_size(running.held))
        running.tasks = [self._spawn(self._watch(running)), self._spawn(self._look_after(running))]

    def _server(self, known: Known, options: Sequence[str]) -> Server | Replicas:
        """One runner of it, or several as one."""

        def make(place: int) -> Server:
            # Without the mode it looks at the files once more: they may have gone since.
            return Server(
                known.argument,
                options=[*known.options, *options],
                load_timeout=self._settings.load_timeout,
                key=secrets.token_urlsafe(24),
                variables={VISIBLE: known.cards[place]} if known.cards else None,
            )

        if known.replicas == 1:
            return make(0)
        return Replicas(
            make,
            known.replicas,
            apart=bool(known.cards),
            unresponsive=self._settings.unresponsive,
            on_death=self._metrics.crashes.labels(known.name).inc,
        )

    def end_soon(self, running: Running, why: str) -> None:
        """From now on it takes no request; it is gone a little later."""
        if running.phase is not Phase.ENDING:
            self._leave(running, why)
            self._spawn(self._close(running))

    async def end(self, running: Running, why: str) -> None:
        """Return when it is gone."""
        if running.phase is not Phase.ENDING:
            self._leave(running, why)
            await self._close(running)

    async def stop_loading(self, why: str) -> None:
        for running in self.all:
            if running.phase is Phase.LOADING:
                running.stopping = True
                await running.server.kill(why)

    async def close(self) -> None:
        """End every runner and return when they are gone."""
        await asyncio.gather(*(self.end(running, "closed") for running in self.all))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)

    def _leave(self, running: Running, why: str) -> None:
        running.phase = Phase.ENDING
        running.stop_timer()
        self._metrics.ended.labels(running.known.name, why).inc()
        log.info("%s ends: %s", running.known.name, why)

    async def _close(self, running: Running) -> None:
        await running.server.close()
        self._forget(running)

    def _forget(self, running: Running) -> None:
        running.phase = Phase.ENDING
        running.stop_timer()
        for task in running.tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self._running.pop(running.known.argument, None)
        self._on_change()

    async def _watch(self, running: Running) -> None:
        """A runner that ends by itself has died."""
        words = await running.server.wait()
        if running.phase is Phase.READY:
            self._died(running, words)
            await running.server.close()
            self._forget(running)

    async def _look_after(self, running: Running) -> None:
        """Hear what it holds; kill it when it has not answered for too long, while we could have heard it."""
        with closing(AwakeClock()) as clock:
            heard = clock.time()
            while True:
                await asyncio.sleep(self._settings.health_every)
                try:
                    await running.server.refresh()
                except DiptychError as error:
                    log.warning("%s: %s", running.known.name, error.message)
                    if clock.time() - heard > self._settings.unresponsive:
                        await running.server.kill("it did not answer its health check")
                else:
                    heard = clock.time()
                    running.report(running.server.memory_size)
                    self._on_change()

    def _died(self, running: Running, words: str) -> None:
        log.error("the runner of %s died: %s", running.known.name, words)
        self._metrics.crashes.labels(running.known.name).inc()
        self._holdoff(running.known).died(words, time.monotonic())

    def _holdoff(self, known: Known) -> Holdoff:
        return self._holdoffs.setdefault(known.argument, Holdoff())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
