"""Who answers: a runner of our own, or the gateway that is running."""

import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Protocol

from runner.supervisor import Event, Server

__all__ = ["Event", "OwnRunner", "Source"]


class Source(Protocol):
    """Where answers come from."""

    model: str

    async def start(self, on_progress: Callable[[float], None]) -> None:
        """Ready to answer once this returns."""

    @property
    def over(self) -> bool:
        """Whether no answer can come any more."""

    def answer(self, request: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        """The events of an answer; closing it stops the work."""

    async def close(self) -> None:
        """Nothing of it is left."""


class OwnRunner:
    """A runner for this conversation alone; it ends with it."""

    def __init__(self, model: str, options: list[str]) -> None:
        self.model = model
        self._server = Server(model, options=options, key=secrets.token_urlsafe())

    async def start(self, on_progress: Callable[[float], None]) -> None:
        await self._server.start(on_progress)

    @property
    def over(self) -> bool:
        return self._server.has_exited

    def answer(self, request: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        return self._server.completion(request)

    async def close(self) -> None:
        await self._server.close()
