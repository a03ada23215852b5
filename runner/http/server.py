"""The socket, the event loop and the HTTP server of the gateway and of runners."""

import asyncio
import contextlib
import errno
import functools
import ipaddress
import socket
from collections.abc import Callable, Generator
from typing import Any, cast

import uvicorn

from runner.clock import AwakeClock
from runner.errors import RunnerFailed
from runner.http.connection import Connection
from runner.http.limits import Limits

BACKLOG = 2048


class PortInUse(RunnerFailed):
    """Another program listens on the port."""


def is_loopback(host: str) -> bool:
    """Whether the address is reachable from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # From now on connections queue, whatever the event loop is busy with.
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise PortInUse(
                f"cannot listen on {host}:{port}: another program is listening there; choose another port with --port"
            ) from None
        reason = getattr(error, "strerror", None) or error
        raise RunnerFailed(f"cannot listen on {host}:{port}: {reason}") from None
    listener.setblocking(False)
    return listener


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed, otherwise asyncio's."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


class HttpServer(uvicorn.Server):
    """Sets limits that uvicorn does not have, and leaves signals to the process."""

    def __init__(self, asgi: Any, limits: Limits) -> None:
        self._clock = AwakeClock()
        connection: Any = functools.partial(Connection, limits, self._clock)
        config = uvicorn.Config(
            asgi,
            http=connection,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            interface="asgi3",
            timeout_keep_alive=cast(int, limits.idle),
            timeout_graceful_shutdown=1,
            backlog=BACKLOG,
        )
        super().__init__(config)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().serve(sockets)
        finally:
            self._clock.close()

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if counter % 10 == 0:
            for connection in list(self.server_state.connections):
                cast(Connection, connection).check()
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
