"""What serves a model, as the pool and the fleet see it: an interface, behind which a runner may be one process
(`launcher.py`), several (`replicas.py`), or on another machine."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, overload

from msgspec import Struct

from runner.errors import RunnerFailed
from runner.gateway.resolver import ResolvedModel
from runner.process.client import ConnectionLost, Headers, Response
from runner.process.supervisor import Report
from runner.protocol.events import CompletionRequest, Event, ImageEvent, TextEvent
from runner.protocol.image import ImageCompletionRequest
from runner.protocol.text import TextRequest


class ReplicaState(Struct, frozen=True):
    """One of several runners, as /models shows it."""

    pid: int | None
    ready: bool
    active: int


class Endpoint(Protocol):
    """Where the requests of one lease go."""

    @property
    def context_length(self) -> int: ...

    @overload
    def completion(
        self, request: TextRequest, *, id: str | None = None
    ) -> AsyncGenerator[TextEvent, None]: ...

    @overload
    def completion(
        self, request: ImageCompletionRequest, *, id: str | None = None
    ) -> AsyncGenerator[ImageEvent, None]: ...

    @overload
    def completion(
        self, request: CompletionRequest, *, id: str | None = None
    ) -> AsyncGenerator[Event, None]: ...

    async def send(self, method: str, path: str, body: bytes = b"", headers: Headers = ()) -> Response: ...

    async def explain(self, error: ConnectionLost) -> RunnerFailed:
        """The error to report for a lost connection."""
        ...


class Backend(Protocol):
    """One loaded model, from `start` to `close` or `kill`."""

    async def start(self, on_progress: Report) -> None:
        """Return once it is ready; RunnerFailed when it will never be. `on_progress` is called with 0 to 1."""

    async def wait(self) -> str:
        """Return when it has ended by itself, with the reason."""
        ...

    async def close(self) -> None:
        """End it in an orderly way."""

    async def kill(self, why: str = "") -> None:
        """End it at once. `why` becomes the reason."""

    async def refresh(self) -> object:
        """Check its health, and update what the properties report; a DiptychError when it does not answer."""

    async def cancel(self, id: str) -> bool:
        """Cancel the requests with this id; whether there were any."""
        ...

    def pick(self) -> Endpoint:
        """The endpoint for a new lease; `give_back` it when the lease ends."""
        ...

    def give_back(self, endpoint: Endpoint) -> None: ...

    @property
    def progress(self) -> float:
        """Of loading, 0 to 1."""
        ...

    @property
    def memory_size(self) -> int:
        """Bytes that it holds, of the memory that the budget counts."""
        ...

    @property
    def context_length(self) -> int: ...

    @property
    def pid(self) -> int | None:
        """Of a process on this machine."""
        ...

    @property
    def replicas(self) -> list[ReplicaState] | None:
        """None where there is only one runner."""
        ...


class Launcher(Protocol):
    def launch(self, model: ResolvedModel, options: Sequence[str]) -> Backend:
        """A backend for this model, to be started by the caller. `options` are added to the model's own."""
        ...
