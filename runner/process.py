"""What every serving process of ours does alike: its socket, its event loop, its HTTP server."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Generator
from typing import Any

import uvicorn

from runner.errors import RunnerFailed

BACKLOG = 2048


def is_loopback(host: str) -> bool:
    """Whether only this machine can come in by that address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Connections queue from now on, whatever the event loop is busy with.
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise RunnerFailed(f"cannot listen on {host}:{port}: {error}") from None
    listener.setblocking(False)
    return listener


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it exists, else Python's own."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


class HttpServer(uvicorn.Server):
    """Signals are the process's business, not uvicorn's."""

    def __init__(self, asgi: Any, **options: Any) -> None:
        config = uvicorn.Config(
            asgi,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            interface="asgi3",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
            backlog=BACKLOG,
            **options,
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
