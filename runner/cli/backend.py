"""Who answers a command: the gateway when it is running, else a runner of the command's own."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Protocol

from runner.config import Config, model_arguments
from runner.errors import NoGateway
from runner.gateway.remote import Remote, reach
from runner.process.supervisor import Server
from runner.protocol.events import Event
from runner.sources import ModelFiles

__all__ = ["Event", "OwnRunner", "Source", "ThroughGateway", "choose"]

Report = Callable[[float], None]
LOOK = 0.2  # seconds between two looks at how far a load is


class Source(Protocol):
    """Where answers come from: `start`, then `answer` as often as one likes, then `close`."""

    async def start(self, on_progress: Report) -> None:
        """Return when the model is loaded; `on_progress` hears how far it is, 0 to 1."""

    @property
    def over(self) -> bool:
        """Whether no answer can come any more."""

    def answer(self, request: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        """The native contract's events; closing the generator stops the work."""

    async def close(self) -> None:
        """Leave nothing behind."""


class OwnRunner:
    """A runner for one command; it ends with it."""

    def __init__(self, model: str, options: Sequence[str] = ()) -> None:
        # What it would warm up with is what it is about to do.
        options = ["--no-warm-up", *options]
        self._server = Server(model, options=options, key=secrets.token_urlsafe())

    async def start(self, on_progress: Report) -> None:
        await self._server.start(on_progress)

    @property
    def over(self) -> bool:
        return self._server.has_exited

    def answer(self, request: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        return self._server.completion(request)

    async def close(self) -> None:
        await self._server.close()


class ThroughGateway:
    """A model of the gateway's, which keeps it when the command has ended."""

    over = False  # it starts a new runner when one dies, and may itself be started again

    def __init__(self, remote: Remote, model: str, shown: str) -> None:
        self._remote = remote
        self._model = model
        self._shown = shown  # what the gateway calls it

    async def start(self, on_progress: Report) -> None:
        loading = asyncio.create_task(self._remote.load(self._model))
        try:
            while not (await asyncio.wait([loading], timeout=LOOK))[0]:
                on_progress(_progress(await self._remote.state(), self._shown))
            loading.result()
            on_progress(1.0)
        finally:
            loading.cancel()

    def answer(self, request: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        return self._remote.completion({"model": self._model, **request})

    async def close(self) -> None:
        self._remote.close()


async def choose(model: str, files: ModelFiles, config: Config) -> Source:
    """The gateway, when it is running and may serve this model; else a runner of our own.

    Folders are the gateway's only when they were named to it.
    """
    try:
        remote, state = await reach(config)
    except NoGateway:
        return OwnRunner(model, model_arguments(config.model(model)))
    known = {str(entry.get("name")) for entry in state["models"]} | set(config.aliases.values())
    named = next((name for name in (model, files.name) if name in known), None)
    if files.source == "folder" and named is None:
        remote.close()
        return OwnRunner(model, model_arguments(config.model(model)))
    return ThroughGateway(remote, named or model, files.name)


def _progress(state: Mapping[str, Any], model: str) -> float:
    """How far the load of a model is; 0 while it waits for others."""
    return next((entry["progress"] for entry in state["models"] if entry.get("name") == model), 0.0)
