"""The models that are loaded: started, monitored, unloaded. Knows nothing of who waits for them."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from typing import Any

from runner.clock import AwakeClock
from runner.errors import Busy, DiptychError, RunnerFailed
from runner.gateway.backend import Launcher
from runner.gateway.backoff import CrashBackoff
from runner.gateway.lease import LoadedModel, Phase
from runner.gateway.metrics import GatewayMetrics
from runner.gateway.resolver import ResolvedModel
from runner.gateway.settings import Settings
from runner.process.supervisor import Report
from runner.units import show_size

log = logging.getLogger("diptych.gateway")


class Fleet:
    """`on_change` is called whenever a backend has ended, or has reported how much memory it holds."""

    def __init__(
        self, settings: Settings, launcher: Launcher, metrics: GatewayMetrics, on_change: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._launcher = launcher
        self._metrics = metrics
        self._on_change = on_change
        self._loaded: dict[str, LoadedModel] = {}
        self._backoffs: dict[str, CrashBackoff] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def of(self, model: ResolvedModel) -> LoadedModel | None:
        return self._loaded.get(model.argument)

    @property
    def all(self) -> list[LoadedModel]:
        return list(self._loaded.values())

    def check(self, model: ResolvedModel) -> None:
        """Raise Busy during the backoff of a model whose runner keeps crashing."""
        backoff = self._backoff(model)
        seconds = backoff.remaining(time.monotonic())
        if seconds > 0:
            raise Busy(
                f"the runner of {model.name} keeps crashing; it can be restarted in {seconds:.0f} s. "
                f"Its last error: {backoff.reason}",
                retry_after=int(seconds) + 1,
            )

    def add(self, model: ResolvedModel, needs: int, options: Sequence[str]) -> LoadedModel:
        """A backend for the model, whose memory counts from now on; `load` starts it."""
        keep_alive = self._settings.keep_alive if model.keep_alive is None else model.keep_alive
        loaded = LoadedModel(model, self._launcher.launch(model, options), needs, keep_alive)
        self._loaded[model.argument] = loaded
        return loaded

    async def load(self, loaded: LoadedModel, on_progress: Report) -> None:
        """Return when it is ready. A failure is raised, and counts as a death."""
        model = loaded.model
        try:
            await loaded.backend.start(on_progress)
        except BaseException as error:
            self._remove(loaded)
            if isinstance(error, RunnerFailed):
                if loaded.stopping:
                    raise Busy(f"{model.name} was stopped while it loaded; send the request again") from None
                self._record_death(loaded, error.message)
            raise
        took = time.monotonic() - loaded.began
        loaded.phase = Phase.READY
        loaded.report(loaded.backend.memory_size)
        self._metrics.loads.labels(model.name).inc()
        self._metrics.load_seconds.observe(took)
        log.info("%s is loaded after %.1f s: %s", model.name, took, show_size(loaded.held))
        loaded.tasks = [self._spawn(self._watch(loaded)), self._spawn(self._monitor(loaded))]

    def unload_soon(self, loaded: LoadedModel, why: str) -> None:
        """It takes no more requests, and is gone a little later."""
        if loaded.phase is not Phase.ENDING:
            self._begin_ending(loaded, why)
            self._spawn(self._close(loaded))

    async def unload(self, loaded: LoadedModel, why: str) -> None:
        """Return when it is gone."""
        if loaded.phase is not Phase.ENDING:
            self._begin_ending(loaded, why)
            await self._close(loaded)

    async def stop_loading(self, why: str) -> None:
        for loaded in self.all:
            if loaded.phase is Phase.LOADING:
                loaded.stopping = True
                await loaded.backend.kill(why)

    async def close(self) -> None:
        """Unload everything."""
        await asyncio.gather(*(self.unload(loaded, "closed") for loaded in self.all))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)

    def _begin_ending(self, loaded: LoadedModel, why: str) -> None:
        loaded.phase = Phase.ENDING
        loaded.stop_timer()
        self._metrics.ended.labels(loaded.model.name, why).inc()
        log.info("%s is unloaded: %s", loaded.model.name, why)

    async def _close(self, loaded: LoadedModel) -> None:
        await loaded.backend.close()
        self._remove(loaded)

    def _remove(self, loaded: LoadedModel) -> None:
        loaded.phase = Phase.ENDING
        loaded.stop_timer()
        for task in loaded.tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self._loaded.pop(loaded.model.argument, None)
        self._on_change()

    async def _watch(self, loaded: LoadedModel) -> None:
        """A backend that ends by itself has died."""
        reason = await loaded.backend.wait()
        if loaded.phase is Phase.READY:
            self._record_death(loaded, reason)
            await loaded.backend.close()
            self._remove(loaded)

    async def _monitor(self, loaded: LoadedModel) -> None:
        """Poll its health and its memory; kill it after too long without a response that we could have received."""
        with closing(AwakeClock()) as clock:
            last_response = clock.time()
            while True:
                await asyncio.sleep(self._settings.health_every)
                try:
                    await loaded.backend.refresh()
                except DiptychError as error:
                    log.warning("%s: %s", loaded.model.name, error.message)
                    if clock.time() - last_response > self._settings.unresponsive:
                        await loaded.backend.kill("it did not answer its health check")
                else:
                    last_response = clock.time()
                    loaded.report(loaded.backend.memory_size)
                    self._on_change()

    def _record_death(self, loaded: LoadedModel, reason: str) -> None:
        log.error("the runner of %s died: %s", loaded.model.name, reason)
        self._metrics.crashes.labels(loaded.model.name).inc()
        self._backoff(loaded.model).record_death(reason, time.monotonic())

    def _backoff(self, model: ResolvedModel) -> CrashBackoff:
        return self._backoffs.setdefault(model.argument, CrashBackoff())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
