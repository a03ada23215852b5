"""A model that a Diptych on another machine serves, in the place of a process on this one."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, overload

import msgspec
from msgspec import Struct

from runner.clock import awake_timeout
from runner.errors import DiptychError, ModelNotSupported, RunnerFailed
from runner.gateway.backend import Endpoint
from runner.gateway.hops import is_passed_on
from runner.gateway.places import SENT_WITH, Place, about, asked, converted
from runner.process.client import ConnectionLost, Headers, Response
from runner.process.responses import encode_request, read_events
from runner.process.supervisor import HEALTH_TIMEOUT, Report
from runner.protocol.events import CompletionRequest, Event, ImageEvent, TextEvent
from runner.protocol.image import ImageCompletionRequest
from runner.protocol.text import TextRequest

# Of a runner, and not of the native API of a gateway.
RUNNER_ONLY = ("/v1/status", "/rerank")


class _Loaded(Struct, frozen=True):
    """What GET /models says of a model."""

    name: str
    context: int = 0


class _AllLoaded(Struct, frozen=True):
    models: tuple[_Loaded, ...]


class Peer:
    """Implements what `Replicas` needs of a runner. It counts as ended as soon as its machine cannot be reached; `start`
    then tries again. `instead` names a runner that can take a request over, one of this machine if it is asked for."""

    pid = None
    memory_size = 0  # of this machine

    def __init__(
        self,
        place: Place,
        key: str | None,
        instead: Callable[["Peer", bool], Endpoint | None],
    ) -> None:
        self._place = place
        self._key = key
        self._client = place.client(key)
        self._loading: asyncio.Task[None] | None = None
        self._instead = instead
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._context = 0

    @property
    def model_path(self) -> str:
        return f"{self._place.model} at {self._client.address}"

    @property
    def context_length(self) -> int:
        return self._context

    # -- its life

    async def start(self, on_progress: Report = lambda progress: None) -> None:
        """Return once the gateway there knows the model. It begins to load it, which nobody waits for: two gateways that name
        each other would wait for ever."""
        try:
            await about([self._place], self._key)
            await self.refresh()
        except BaseException:
            self._client.close()
            raise
        self._loading = asyncio.create_task(self._load())
        on_progress(1.0)

    async def _load(self) -> None:
        try:
            await self._ask("POST", "/models/load", {"model": self._place.model})
        except DiptychError as error:
            self._end(f"{self.model_path} cannot be loaded: {error.message}")

    async def close(self) -> None:
        """The machine itself decides how long it keeps the model."""
        self._end("closed")

    async def kill(self, why: str = "") -> None:
        self._end(why)

    async def wait(self) -> str:
        return await asyncio.shield(self._ended)

    def _end(self, why: str) -> None:
        if not self._ended.done():
            self._ended.set_result(why)
        if self._loading is not None and self._loading is not asyncio.current_task():
            self._loading.cancel()
        self._client.close()

    # -- calls

    async def refresh(self) -> object:
        try:
            async with awake_timeout(HEALTH_TIMEOUT):
                answer = await self._ask("GET", "/models")
        except TimeoutError:
            raise RunnerFailed(f"{self._client.address} does not answer") from None
        loaded = converted(answer, _AllLoaded, self._client.address).models
        self._context = next((one.context for one in loaded if one.name == self._place.model), self._context)
        return answer

    async def cancel(self, id: str) -> bool:
        return bool((await self._ask("POST", "/cancel", {"id": id}))["cancelled"])

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

    def completion(self, request: CompletionRequest, *, id: str | None = None) -> AsyncGenerator[Any, None]:
        headers = [("x-request-id", id)] if id else []
        return read_events(
            lambda: self.send("POST", "/completion", encode_request(request), headers), self.explain
        )

    async def send(self, method: str, path: str, body: bytes = b"", headers: Headers = ()) -> Response:
        """A request of a runner's API. If the machine cannot be reached, another one takes it over."""
        if path in RUNNER_ONLY:
            raise ModelNotSupported(f"{path} is not passed on to other machines")
        if is_passed_on():
            return await self._elsewhere(True, "two gateways name each other", method, path, body, headers)
        try:
            return await self._client.request(
                method, path, _naming(body, self._place.model), [*headers, *SENT_WITH]
            )
        except ConnectionLost as error:
            why = (await self.explain(error)).message
            self._end(why)
            return await self._elsewhere(False, why, method, path, body, headers)

    async def _elsewhere(
        self, here: bool, why: str, method: str, path: str, body: bytes, headers: Headers
    ) -> Response:
        other = self._instead(self, here)
        if other is None:
            raise RunnerFailed(f"{self.model_path} cannot take the request: {why}")
        return await other.send(method, path, body, headers)

    async def explain(self, error: ConnectionLost) -> RunnerFailed:
        return RunnerFailed(f"{self.model_path}: {error}")

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return await asked(self._client, method, path, body)


def _naming(body: bytes, model: str) -> bytes:
    """The same request for a model of this name; all else stays as it was written."""
    if not body:
        return body
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body  # the gateway there says what is wrong with it
    return msgspec.json.encode({**fields, "model": model})
