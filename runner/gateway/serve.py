"""The gateway's process: listen, load the models named at the start, handle signals, shut down."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Sequence

from models.open_files import allow_open_files
from runner.errors import ConfigInvalid, DiptychError
from runner.gateway.app import Api, Gateway
from runner.gateway.discovery import advertise, gateways
from runner.gateway.remote import WILDCARD_HOSTS
from runner.gateway.settings import Settings
from runner.http import tracing
from runner.http.limits import Limits
from runner.http.server import HttpServer, PortInUse, bind, is_loopback, loop_factory
from runner.process.client import address
from runner.units import show_size

log = logging.getLogger("diptych.gateway")

KEEP_LOADED = -1.0


def run(settings: Settings, apis: Sequence[Api]) -> int:
    """Serve until interrupted; the exit code. `runner.api.registry.APIS` are the APIs of `diptych serve`."""
    if not is_loopback(settings.host) and not settings.keys:
        raise ConfigInvalid(
            f"other machines can reach {settings.host}, so clients need an API key: set --api-key, --api-key-file or "
            "DIPTYCH_API_KEY"
        )
    allow_open_files()
    listener = _listen(settings.host, settings.port)
    tracing.start("diptych")
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_Process(settings, apis, listener).main())
    finally:
        tracing.stop()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return bind(host, port)
    except PortInUse:
        other = next((record for record in gateways() if record.port == port), None)
        if other is None:
            raise
        raise PortInUse(
            f"a Diptych gateway (process {other.pid}) is already listening on {host}:{port}; use that, or choose another "
            "port with --port"
        ) from None


class _Process:
    def __init__(self, settings: Settings, apis: Sequence[Api], listener: socket.socket) -> None:
        self._settings = settings
        self._apis = apis
        self._listener = listener
        self._stopping = asyncio.Event()
        self._signals = 0

    async def main(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        gateway = Gateway(self._settings)
        for model in self._settings.models:
            await gateway.resolver.resolve(model)
        gateway.pool.start()
        server = HttpServer(gateway.asgi(self._apis), Limits(stall=self._settings.stall))
        serving = asyncio.create_task(server.serve(sockets=[self._listener]))
        preloading = asyncio.create_task(self._preload(gateway))
        if gateway.store is not None:
            await gateway.store.check()
        await gateway.check_gallery()
        with advertise(*self._listener.getsockname()[:2]):
            self._announce(gateway)
            await self._stopping.wait()
        preloading.cancel()
        log.info("stopping: %d requests in flight", gateway.pool.active)
        await gateway.pool.close(self._settings.grace)
        await gateway.close()
        server.should_exit = True
        await serving
        log.info("stopped")
        return 0

    def _announce(self, gateway: Gateway) -> None:
        """Requests are accepted from here on."""
        host, port = self._listener.getsockname()[:2]
        if self._settings.port == 0:
            print(port, flush=True)
        url = f"http://{address(WILDCARD_HOSTS.get(host, host), port)}"
        log.info("Ready. Open %s in your browser; Ctrl-C stops", url)
        log.info("models may use %s (%s)", show_size(gateway.pool.budget), gateway.budget_source)

    async def _preload(self, gateway: Gateway) -> None:
        """Load the models named at the start. Unless configured otherwise, they stay until their memory is needed."""
        for model in self._settings.models:
            keep_alive = self._settings.keep_alive_of(model)
            try:
                (
                    await gateway.pool.acquire(model, KEEP_LOADED if keep_alive is None else keep_alive)
                ).release()
            except DiptychError as error:
                log.error("%s is not loaded: %s", model, error.message)

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(130)  # the runners notice, and exit
        self._stopping.set()
