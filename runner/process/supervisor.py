"""`Server`: one runner as a child process, for schedulers and for programs of your own. No MLX. See docs/server.md."""

import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, Self, overload

from runner.clock import awake_timeout
from runner.errors import BadRequest, DiptychError, RunnerFailed
from runner.inspect.detect import check_runnable
from runner.inspect.memory import UNREADABLE_VRAM, estimated_vram
from runner.process.child import Child, check_platform
from runner.process.client import Client, ConnectionLost, Headers, Response
from runner.process.responses import encode_request, error_from, read_events, read_object
from runner.process.startup import Startup, default_load_timeout
from runner.protocol.events import CompletionRequest, Event, ImageEvent, TextEvent
from runner.protocol.image import ImageCompletionRequest
from runner.protocol.text import TextRequest
from runner.sources import ModelMode, find
from runner.sources.base import shorten
from runner.sources.find import find_here
from runner.threads import run_in_daemon_thread
from runner.units import show_duration

log = logging.getLogger("diptych.server")

KILL_AFTER_S = 5.0  # seconds from the interrupt to the kill
WRITE_S = 6.0  # seconds more for a runner that writes keys and values to disk
HEALTH_TIMEOUT = 10.0
GOING = 1.0  # seconds that a process may take to end after its connections did

Report = Callable[[float], None]


class Server:
    """A runner of one model, started with `start` (or `async with`) and ended with `close`.

    `mode` is detected from the model's files unless it is given. `options` go to `diptych runner` as they are
    (`["--context", "4096"]`). With `key`, only requests that carry it are answered: ours do.
    `variables` are what its environment has beside what every runner needs of ours (runner/process/environment.py).
    """

    def __init__(
        self,
        model: str,
        mode: ModelMode | str | None = None,
        *,
        options: Sequence[str] = (),
        load_timeout: float | None = None,
        key: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._model = model
        self._mode = _mode(mode)
        self._options = tuple(options)
        timeout = load_timeout if load_timeout is not None else default_load_timeout()
        self._load_timeout = timeout if timeout > 0 else None
        self._key = key
        self._variables = variables
        self._child: Child | None = None
        self._client: Client | None = None
        self._status: dict[str, Any] = {}
        self._killed: str | None = None
        self.progress = 0.0

    # -- its life

    async def start(self, on_progress: Report = lambda progress: None) -> None:
        """Start the runner and return once it is healthy; `on_progress` is called with its progress, 0 to 1.
        RunnerFailed if it exits first (with its last error), makes no progress for the load timeout, or does nothing at
        all for half a minute (runner/process/stalls.py)."""
        if self._child is not None:
            raise RunnerFailed(f"{self._model} has been started already; make another Server")
        check_platform()
        if self._mode is None:
            self._mode = await run_in_daemon_thread(lambda: check_runnable(find(self._model)).mode)
        downloads = await run_in_daemon_thread(lambda: _must_be_downloaded(self._model))
        arguments = ["runner", f"--model={self._model}", "--port=0", "--supervised", *self._options]
        self._child = await Child.start(
            arguments, self._model, self._key, variables=self._variables, downloads=downloads
        )
        try:
            if self._killed is not None:  # before there was a process
                raise RunnerFailed(self._killed or "it was stopped before it had started")
            startup = Startup(self._model, self._child, self._key, self._load_timeout)
            await startup.wait(self._listens, lambda progress: self._heard(progress, on_progress))
            await self.refresh()
        except BaseException:
            await self.kill()
            raise

    def _listens(self, client: Client) -> None:
        self._client = client

    def _heard(self, progress: float, on_progress: Report) -> None:
        self.progress = progress
        on_progress(progress)

    async def close(self) -> None:
        """Interrupt the runner, give it five seconds for what is in flight, then kill it. With --kv-disk it has six more to
        write what is in memory."""
        if self._child is not None:
            writes = any(option.split("=")[0] == "--kv-disk" for option in self._options)
            await self._child.stop(KILL_AFTER_S + WRITE_S * writes)
        if self._client is not None:
            self._client.close()

    async def kill(self, why: str = "") -> None:
        """End the runner at once, or as soon as it has been started. `why` stands in for its last error."""
        self._killed = why
        if self._child is not None:
            self._child.kill(why)
            await self._child.wait()
        if self._client is not None:
            self._client.close()

    async def wait(self) -> str:
        """Wait for the runner to end; its last error and how it ended."""
        child = self._running()
        await child.wait()
        return child.last_words

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- its state

    @property
    def model_path(self) -> str:
        """The model as it was named: a folder, a hub repo, a name in the Ollama store."""
        return self._model

    @property
    def mode(self) -> ModelMode | None:
        return self._mode

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    @property
    def port(self) -> int | None:
        return self._client.port if self._client is not None else None

    @property
    def has_exited(self) -> bool:
        return self._child is not None and self._child.has_exited

    @cached_property
    def estimated_vram(self) -> int:
        """The bytes of its weights as the files declare them; 8 GiB when they cannot be read. Reads files."""
        try:
            return estimated_vram(find(self._model))
        except DiptychError as error:
            log.debug("no estimate for %s: %s", self._model, error.message)
            return UNREADABLE_VRAM

    @property
    def memory_size(self) -> int:
        """The bytes that it last reported holding; before that, the estimate."""
        return int(self._status.get("Memory") or self.estimated_vram)

    @property
    def context_length(self) -> int:
        """The longest text in tokens, for a model of pictures the longest prompt; 0 before it is ready."""
        return int(self._status.get("ContextLength", 0))

    # -- calls

    async def ping(self) -> None:
        """Return if it is healthy; otherwise raise its error."""
        async with self._in_time():
            response = await self.send("GET", "/health")
            body = await self._read(response)
        if response.status != 200:
            raise error_from(response, body)

    async def refresh(self) -> Mapping[str, Any]:
        """Its /v1/status, from which `memory_size` and `context_length` are taken."""
        async with self._in_time():
            self._status = await self._request("GET", "/v1/status")
        return self._status

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
        self, request: CompletionRequest | Mapping[str, Any], *, id: str | None = None
    ) -> AsyncGenerator[Event, None]: ...

    def completion(
        self, request: CompletionRequest | Mapping[str, Any], *, id: str | None = None
    ) -> AsyncGenerator[Any, None]:
        """The events of a text or a picture (runner/protocol/events.py), up to the last.

        Errors are raised: before the first event with the runner's status, later as RunnerFailed. Closing the
        generator (contextlib.aclosing) stops the work; so does `cancel` with the `id` that was given here.
        """
        headers = [("x-request-id", id)] if id else []
        return read_events(
            lambda: self.send("POST", "/completion", encode_request(request), headers), self.explain
        )

    async def tokenize(self, content: str) -> list[int]:
        return list((await self._request("POST", "/tokenize", {"content": content}))["tokens"])

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return str((await self._request("POST", "/detokenize", {"tokens": list(tokens)}))["content"])

    async def embedding(self, content: str) -> list[float]:
        return list((await self._request("POST", "/embedding", {"content": content}))["embedding"])

    async def cancel(self, id: str) -> bool:
        """Stop the completion of this id; whether there was one."""
        return bool((await self._request("POST", "/cancel", {"id": id}))["cancelled"])

    async def send(self, method: str, path: str, body: bytes = b"", headers: Headers = ()) -> Response:
        """Any request to the runner, and its response, whatever its status."""
        self._running()
        if self._client is None:
            raise RunnerFailed(f"the runner of {self._model} is not listening yet")
        try:
            return await self._client.request(method, path, body, headers)
        except ConnectionLost as error:
            raise await self.explain(error) from None

    async def explain(self, error: ConnectionLost) -> RunnerFailed:
        """The error for a lost connection: the runner's last error, if it is exiting."""
        child = self._running()
        await child.ended(GOING)
        if child.has_exited:
            return RunnerFailed(child.last_words)
        return RunnerFailed(
            f"the runner of {self._model} failed: {error}; the last error in its log: {child.last_error or 'none'}"
        )

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        response = await self.send(method, path, encode_request(body) if body is not None else b"")
        content = await self._read(response)
        if response.status != 200:
            raise error_from(response, content)
        return content

    async def _read(self, response: Response) -> dict[str, Any]:
        try:
            return await read_object(response)
        except ConnectionLost as error:
            raise await self.explain(error) from None

    @contextlib.asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with awake_timeout(HEALTH_TIMEOUT):
                yield
        except TimeoutError:
            raise RunnerFailed(
                f"the runner of {self._model} has not answered for {show_duration(HEALTH_TIMEOUT)}"
            ) from None

    def _running(self) -> Child:
        if self._child is None:
            raise RunnerFailed(f"the runner of {self._model} has not been started")
        return self._child


def _mode(mode: ModelMode | str | None) -> ModelMode | None:
    if mode is None or mode in set(ModelMode):
        return None if mode is None else ModelMode(mode)
    raise BadRequest(f"mode: {shorten(mode)} is not allowed; it must be {' or '.join(ModelMode)}")


def _must_be_downloaded(model: str) -> bool:
    """Whether the runner has to fetch the model, for which it needs the hub's token."""
    try:
        return find_here(model) is None
    except DiptychError as error:
        log.debug("the runner of %s will report what is wrong: %s", model, error.message)
        return False
