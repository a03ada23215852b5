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
from runner.gateway.backoff import CrashBackoff
from runner.gateway.lease import LoadedModel, Phase
from runner.gateway.metrics import GatewayMetrics
from runner.gateway.replicas import Replicas
from runner.gateway.resolver import ResolvedModel
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
        self._loaded: dict[str, LoadedModel] = {}
        self._holdoffs: dict[str, CrashBackoff] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def of(self, model: ResolvedModel) -> LoadedModel | None:
        return self._loaded.get(model.argument)

    @property
    def all(self) -> list[LoadedModel]:
        return list(self._loaded.values())

    def check(self, model: ResolvedModel) -> None:
        """Busy while a model whose runner keeps dying is held off."""
        holdoff = self._holdoff(model)
        seconds = holdoff.remaining(time.monotonic())
        if seconds > 0:
            raise Busy(
                f"the runner of {model.name} keeps dying; it is started again in {seconds:.0f} s at the earliest. "
                f"The last time: {holdoff.reason}",
                retry_after=int(seconds) + 1,
            )

    def begin(self, model: ResolvedModel, needs: int, options: Sequence[str]) -> LoadedModel:
        """A place for a runner of that model, whose memory counts from now on; `load` starts it."""
        keep_alive = self._settings.keep_alive if model.keep_alive is None else model.keep_alive
        loaded = LoadedModel(model, self._server(model, options), needs, keep_alive)
        self._loaded[model.argument] = loaded
        return loaded

    async def load(self, loaded: LoadedModel, on_progress: Report) -> None:
        """Return when it is ready; what goes wrong is raised, and counts as a death."""
        model = loaded.model
        try:
            await loaded.server.start(on_progress)
        except BaseException as error:
            self._forget(loaded)
            if isinstance(error, RunnerFailed):
                if loaded.stopping:
                    raise Busy(f"{model.name} was stopped while it loaded; ask again to load it") from None
                self._died(loaded, error.message)
            raise
        took = time.monotonic() - loaded.began
        loaded.phase = Phase.READY
        loaded.report(loaded.server.memory_size)
        self._metrics.loads.labels(model.name).inc()
        self._metrics.load_seconds.observe(took)
        log.info("%s is loaded after %.1f s: %s", model.name, took, show_size(loaded.held))
        loaded.tasks = [self._spawn(self._watch(loaded)), self._spawn(self._look_after(loaded))]

    def _server(self, model: ResolvedModel, options: Sequence[str]) -> Server | Replicas:
        """One runner of it, or several as one."""

        def make(place: int) -> Server:
            # Without the mode it looks at the files once more: they may have gone since.
            return Server(
                model.argument,
                options=[*model.options, *options],
                load_timeout=self._settings.load_timeout,
                key=secrets.token_urlsafe(24),
                variables={VISIBLE: model.cards[place]} if model.cards else None,
            )

        if model.replicas == 1:
            return make(0)
        return Replicas(
            make,
            model.replicas,
            apart=bool(model.cards),
            unresponsive=self._settings.unresponsive,
            on_death=self._metrics.crashes.labels(model.name).inc,
        )

    def end_soon(self, loaded: LoadedModel, why: str) -> None:
        """From now on it takes no request; it is gone a little later."""
        if loaded.phase is not Phase.ENDING:
            self._leave(loaded, why)
            self._spawn(self._close(loaded))

    async def end(self, loaded: LoadedModel, why: str) -> None:
        """Return when it is gone."""
        if loaded.phase is not Phase.ENDING:
            self._leave(loaded, why)
            await self._close(loaded)

    async def stop_loading(self, why: str) -> None:
        for loaded in self.all:
            if loaded.phase is Phase.LOADING:
                loaded.stopping = True
                await loaded.server.kill(why)

    async def close(self) -> None:
        """End every runner and return when they are gone."""
        await asyncio.gather(*(self.end(loaded, "closed") for loaded in self.all))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)

    def _leave(self, loaded: LoadedModel, why: str) -> None:
        loaded.phase = Phase.ENDING
        loaded.stop_timer()
        self._metrics.ended.labels(loaded.model.name, why).inc()
        log.info("%s ends: %s", loaded.model.name, why)

    async def _close(self, loaded: LoadedModel) -> None:
        await loaded.server.close()
        self._forget(loaded)

    def _forget(self, loaded: LoadedModel) -> None:
        loaded.phase = Phase.ENDING
        loaded.stop_timer()
        for task in loaded.tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self._loaded.pop(loaded.model.argument, None)
        self._on_change()

    async def _watch(self, loaded: LoadedModel) -> None:
        """A runner that ends by itself has died."""
        words = await loaded.server.wait()
        if loaded.phase is Phase.READY:
            self._died(loaded, words)
            await loaded.server.close()
            self._forget(loaded)

    async def _look_after(self, loaded: LoadedModel) -> None:
        """Hear what it holds; kill it when it has not answered for too long, while we could have heard it."""
        with closing(AwakeClock()) as clock:
            heard = clock.time()
            while True:
                await asyncio.sleep(self._settings.health_every)
                try:
                    await loaded.server.refresh()
                except DiptychError as error:
                    log.warning("%s: %s", loaded.model.name, error.message)
                    if clock.time() - heard > self._settings.unresponsive:
                        await loaded.server.kill("it did not answer its health check")
                else:
                    heard = clock.time()
                    loaded.report(loaded.server.memory_size)
                    self._on_change()

    def _died(self, loaded: LoadedModel, words: str) -> None:
        log.error("the runner of %s died: %s", loaded.model.name, words)
        self._metrics.crashes.labels(loaded.model.name).inc()
        self._holdoff(loaded.model).died(words, time.monotonic())

    def _holdoff(self, model: ResolvedModel) -> CrashBackoff:
        return self._holdoffs.setdefault(model.argument, CrashBackoff())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
