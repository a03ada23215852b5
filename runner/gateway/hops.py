"""Requests that another gateway has passed on: they are served here or not at all, so that none goes in circles."""

from contextvars import ContextVar

from starlette.types import ASGIApp, Receive, Scope, Send

HEADER = "x-diptych-passed-on"

_passed_on: ContextVar[bool] = ContextVar("passed_on", default=False)


def is_passed_on() -> bool:
    """Whether the request that is being served came from another gateway."""
    return _passed_on.get()


class Hops:
    """Middleware that marks such requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            _passed_on.set(any(name == HEADER.encode() for name, _ in scope["headers"]))
        await self._app(scope, receive, send)
