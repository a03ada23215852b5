"""A backend in memory: what the gateway needs of one, and no process."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, cast

from runner.errors import RunnerFailed
from runner.gateway.backend import Backend, Endpoint, ReplicaState
from runner.gateway.resolver import ResolvedModel
from runner.process.client import ConnectionLost, Headers, Response
from runner.process.supervisor import Report
from runner.protocol.events import CompletionRequest
from runner.protocol.text import TextDone, line


class FakeBackend:
    """It is its only endpoint. `ready` lets `start` return; `die` ends it."""

    def __init__(self, model: ResolvedModel, options: Sequence[str]) -> None:
        self.model = model
        self.options = list(options)
        self.ready = asyncio.Event()
        self.healthy = True
        self.leases = 0
        self.calls: list[str] = []
        self.progress = 0.0
        self.memory_size = model.need.resident - model.need.allowance
        self.context_length = 128
        self.pid: int | None = None
        self.replicas: list[ReplicaState] | None = None
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def die(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    # -- Backend

    async def start(self, on_progress: Report) -> None:
        self.progress = 0.5
        on_progress(0.5)
        ready = asyncio.ensure_future(self.ready.wait())
        await asyncio.wait((ready, self._ended), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._ended.done():
            raise RunnerFailed(self._ended.result())
        self.progress = 1.0

    async def wait(self) -> str:
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        self.calls.append("close")
        self.die("closed")

    async def kill(self, why: str = "") -> None:
        self.calls.append(f"kill: {why}")
        self.die(why)

    async def refresh(self) -> None:
        if not self.healthy:
            raise RunnerFailed("no response")

    async def cancel(self, id: str) -> bool:
        self.calls.append(f"cancel: {id}")
        return True

    def pick(self) -> Endpoint:
        self.leases += 1
        return self

    def give_back(self, endpoint: Endpoint) -> None:
        assert endpoint is self
        self.leases -= 1

    # -- Endpoint

    async def completion(
        self, request: CompletionRequest, *, id: str | None = None
    ) -> AsyncGenerator[Any, None]:
        yield TextDone(0, "stop", 1, 0, 1, 0, 0, content=request.prompt or "")

    async def send(self, method: str, path: str, body: bytes = b"", headers: Headers = ()) -> Response:
        self.calls.append(f"{method} {path}")
        return cast(Response, FakeResponse(line({"content": "fake", "done": True})))

    async def explain(self, error: ConnectionLost) -> RunnerFailed:
        return RunnerFailed(str(error))


class FakeResponse:
    """The head of a response and one chunk."""

    status = 200

    def __init__(self, body: bytes) -> None:
        self.headers = {"content-type": "application/x-ndjson", "server": "not passed on"}
        self._body = body
        self._on_end: list[Callable[[], None]] = []

    def on_end(self, call: Callable[[], None]) -> None:
        self._on_end.append(call)

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body
        for call in self._on_end:
            call()

    def close(self) -> None:
        self._on_end.clear()


class FakeLauncher:
    """`backends`: those it launched, the latest last. They become ready at once, unless `held`."""

    def __init__(self, held: bool = False) -> None:
        self.held = held
        self.backends: list[FakeBackend] = []

    def launch(self, model: ResolvedModel, options: Sequence[str]) -> Backend:
        backend = FakeBackend(model, options)
        if not self.held:
            backend.ready.set()
        self.backends.append(backend)
        return backend
