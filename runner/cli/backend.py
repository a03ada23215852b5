"""What serves a command: the gateway if one is running, otherwise a runner started for this command."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Protocol

from runner.config import Config, model_arguments
from runner.errors import NoGateway
from runner.gateway.remote import Remote, reach
from runner.inspect.detect import check_runnable
from runner.process.supervisor import Server
from runner.protocol.events import CompletionRequest, Event
from runner.sources import ModelFiles
from runner.sources.folder import FolderFiles
from runner.sources.gguf import GGUFFiles

Report = Callable[[float], None]
POLL_S = 0.2  # between two looks at the progress of a load


class Backend(Protocol):
    """One model, ready for requests between `start` and `close`."""

    async def start(self, on_progress: Report) -> None:
        """Return when the model is loaded; `on_progress` gets the progress, 0 to 1."""

    @property
    def has_exited(self) -> bool:
        """Whether it cannot answer any more."""

    def completion(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        """The events of a completion; closing the generator cancels it."""

    async def close(self) -> None:
        """Release everything."""


class GatewayBackend:
    """A model of the gateway, which keeps it loaded when the command ends."""

    has_exited = False  # the gateway restarts runners that die, and may itself be restarted

    def __init__(self, remote: Remote, model: str, name: str) -> None:
        self._remote = remote
        self._model = model
        self._name = name  # as the gateway lists it

    async def start(self, on_progress: Report) -> None:
        loading = asyncio.create_task(self._remote.load(self._model))
        try:
            while not (await asyncio.wait([loading], timeout=POLL_S))[0]:
                on_progress(_progress(await self._remote.state(), self._name))
            loading.result()
            on_progress(1.0)
        finally:
            loading.cancel()

    def completion(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        return self._remote.completion(self._model, request)

    async def close(self) -> None:
        self._remote.close()


async def choose(model: str, files: ModelFiles, config: Config) -> Backend:
    """The gateway if it is running and may serve this model, else a runner of our own.

    A gateway serves a folder only if it was given the folder by name.
    """
    try:
        remote, _ = await reach(config)
    except NoGateway:
        return local_runner(model, files, config)
    name: str | None = model
    if isinstance(files, FolderFiles | GGUFFiles) and files.source == "folder":
        name = await remote.name_of(files.path)
    if name is None:
        remote.close()
        return local_runner(model, files, config)
    return GatewayBackend(remote, name, files.name)


def local_runner(
    model: str, files: ModelFiles, config: Config, options: Sequence[str] = (), engine: str = "auto"
) -> Server:
    """A runner of our own, which ends with the command; `options` and `engine` override the model's configuration."""
    settings = config.model(model)
    mode = check_runnable(files, settings.get("engine", "auto") if engine == "auto" else engine).mode
    # Warming up would take as long as the request itself.
    folders = {name: config.serve[name].value for name in ("loras", "controlnets", "tiny_vae")}
    named = [
        word for name, folder in folders.items() if folder for word in (f"--{name.replace('_', '-')}", folder)
    ]
    options = ["--no-warm-up", *named, *model_arguments(settings), *options]
    return Server(model, mode, options=options, key=secrets.token_urlsafe())


def _progress(state: Mapping[str, Any], model: str) -> float:
    """The progress of loading a model; 0 while others are loaded before it."""
    return next((entry["progress"] for entry in state["models"] if entry.get("name") == model), 0.0)
