"""A loaded model in the gateway: its leases, its memory, and when it will be unloaded."""

import asyncio
import time
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Self

from runner.gateway.backend import Backend
from runner.gateway.resolver import ResolvedModel
from runner.process.client import Response
from runner.sources import ModelMode


class Phase(Enum):
    LOADING = "loading"
    READY = "ready"
    ENDING = "ending"


class LoadedModel:
    def __init__(self, model: ResolvedModel, backend: Backend, needs: int, keep_alive: float) -> None:
        self.model = model
        self.backend = backend
        self.keep_alive = keep_alive
        self.phase = Phase.LOADING
        self.active = 0
        self.began = self.used = time.monotonic()
        self.needs = self.held = needs
        self.weights = 0
        # Accept no new requests: the model is about to be evicted for an earlier request, or was told to stop.
        self.evicting = False
        self.stopping = False
        self.timer: asyncio.TimerHandle | None = None
        self.tasks: list[asyncio.Task[None]] = []

    @property
    def admits(self) -> bool:
        return self.phase is Phase.READY and not self.evicting and not self.stopping

    @property
    def idle(self) -> bool:
        return self.phase is Phase.READY and not self.active

    @property
    def expires(self) -> float | None:
        """Seconds until it is unloaded if no request arrives; None while it is in use, or if it stays loaded."""
        return max(0.0, self.timer.when() - asyncio.get_running_loop().time()) if self.timer else None

    def report(self, memory: int) -> None:
        """Corrects the estimate by what the runner reports: its weights when ready plus room for work, or more if it
        holds more. Smaller values are ignored, because parts of a picture model may be loaded and dropped."""
        self.weights = self.weights or memory
        self.held = max(memory, self.reload_bytes)

    @property
    def reload_bytes(self) -> int:
        """What it will need next time, as measured by loading it once."""
        text = self.model.mode is ModelMode.TEXT
        return self.weights + self.model.need.allowance if text else max(self.needs, self.weights)

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Lease:
    """A model in use: it is not unloaded before `release` (or the end of `async with`)."""

    def __init__(self, loaded: LoadedModel, give_back: Callable[[LoadedModel], None]) -> None:
        self._loaded = loaded
        self._give_back = give_back
        self._released = False
        self.server = loaded.backend.pick()

    @property
    def name(self) -> str:
        return self._loaded.model.name

    @property
    def mode(self) -> ModelMode:
        return self._loaded.model.mode

    async def send(self, method: str, path: str, body: bytes, headers: list[tuple[str, str]]) -> Response:
        """Send any request; the lease ends when the response has arrived, even if it is read later."""
        try:
            answer = await self.server.send(method, path, body, headers)
        except BaseException:
            self.release()
            raise
        answer.on_end(self.release)
        return answer

    def release(self) -> None:
        if not self._released:
            self._released = True
            self._loaded.backend.give_back(self.server)
            self._give_back(self._loaded)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
