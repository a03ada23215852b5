"""One life of a model's runner in the gateway: who uses it, what it holds, until when it stays."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from enum import Enum
from types import TracebackType
from typing import Any, Self

from runner.gateway.replicas import Replicas
from runner.gateway.resolver import Known
from runner.process.client import Answer
from runner.process.supervisor import Event, Server
from runner.sources import ModelMode


class Phase(Enum):
    LOADING = "loading"
    READY = "ready"
    ENDING = "ending"


class Running:
    def __init__(self, known: Known, server: Server | Replicas, needs: int, keep_alive: float) -> None:
        self.known = known
        self.server = server
        self.keep_alive = keep_alive
        self.phase = Phase.LOADING
        self.active = 0
        self.began = self.used = time.monotonic()
        self.needs = self.held = needs
        self.weights = 0
        # Newcomers wait: its memory is wanted by one who came before them, or it was asked to stop.
        self.wanted = False
        self.stopping = False
        self.timer: asyncio.TimerHandle | None = None
        self.tasks: list[asyncio.Task[None]] = []

    @property
    def admits(self) -> bool:
        return self.phase is Phase.READY and not self.wanted and not self.stopping

    @property
    def idle(self) -> bool:
        return self.phase is Phase.READY and not self.active

    @property
    def expires(self) -> float | None:
        """Seconds until it is ended for want of requests; None while it is used, or for good."""
        return max(0.0, self.timer.when() - asyncio.get_running_loop().time()) if self.timer else None

    def report(self, memory: int) -> None:
        """What the runner says it holds corrects the estimate: its weights when it was ready and room for the work, or
        more if it holds more. Of a picture model's weights some may come and go: less is not believed."""
        self.weights = self.weights or memory
        self.held = max(memory, self.needs_again)

    @property
    def needs_again(self) -> int:
        """What it will need the next time, now that it has been loaded once."""
        text = self.known.mode is ModelMode.TEXT
        return self.weights + self.known.need.allowance if text else max(self.needs, self.weights)

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Lease:
    """A model in use: it is not ended before `release` (or the end of `async with`)."""

    def __init__(self, running: Running, give_back: Callable[[Running], None]) -> None:
        self._running = running
        self._give_back = give_back
        self._released = False
        server = running.server
        self.server = server.pick() if isinstance(server, Replicas) else server

    @property
    def name(self) -> str:
        return self._running.known.name

    @property
    def mode(self) -> ModelMode:
        return self._running.known.mode

    def events(self, request: Mapping[str, Any], id: str | None = None) -> AsyncGenerator[Event, None]:
        """The runner's events for a request of the native contract; `Server.completion` says what is raised."""
        return self.server.completion(request, id=id)

    async def send(self, method: str, path: str, body: bytes, headers: list[tuple[str, str]]) -> Answer:
        """Any request; the lease ends with the answer's arrival, whenever that is read."""
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
            if isinstance(self._running.server, Replicas):
                self._running.server.give_back(self.server)
            self._give_back(self._running)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
