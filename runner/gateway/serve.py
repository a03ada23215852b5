"""The life of a gateway process: its port, the models named at its start, signals, the end."""

import asyncio
import logging
import os
import signal
from typing import Any

from models.open_files import allow_open_files
from runner.errors import ConfigInvalid, DiptychError
from runner.gateway.app import Gateway
from runner.gateway.discovery import announced
from runner.gateway.settings import Settings
from runner.http.limits import Limits
from runner.http.server import HttpServer, bind, is_loopback, loop_factory
from runner.process.client import address
from runner.units import show_size

log = logging.getLogger("diptych.gateway")

FOR_GOOD = -1.0


def run(settings: Settings) -> int:
    """Serve until told to stop; the exit code."""
    if not is_loopback(settings.host) and not settings.keys:
        raise ConfigInvalid(
            f"binding {settings.host} lets others in: that needs --api-key or --api-key-file (or DIPTYCH_API_KEY)"
        )
    allow_open_files()
    listener = bind(settings.host, settings.port)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_Process(settings, listener).main())


class _Process:
    def __init__(self, settings: Settings, listener: Any) -> None:
        self._settings = settings
        self._listener = listener
        self._stopping = asyncio.Event()
        self._signals = 0

    async def main(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signal)
        gateway = Gateway(self._settings)
        for model in self._settings.models:
            await gateway.names.look_up(model)
        gateway.pool.start()
        server = HttpServer(gateway.asgi(), Limits(stall=self._settings.stall))
        serving = asyncio.create_task(server.serve(sockets=[self._listener]))
        preloading = asyncio.create_task(self._preload(gateway))
        with announced(*self._listener.getsockname()[:2]):
            self._tell(gateway)
            await self._stopping.wait()
        preloading.cancel()
        log.info("stopping: %d requests in flight", gateway.pool.active)
        await gateway.pool.close(self._settings.grace)
        server.should_exit = True
        await serving
        log.info("stopped")
        return 0

    def _tell(self, gateway: Gateway) -> None:
        """Whoever reads this can ask from now on."""
        host, port = self._listener.getsockname()[:2]
        if self._settings.port == 0:
            print(port, flush=True)
        log.info("serving on http://%s", address(host, port))
        log.info("models may take %s (%s)", show_size(gateway.pool.budget), gateway.budget_from)

    async def _preload(self, gateway: Gateway) -> None:
        """The models named at the start stay until their memory is wanted, unless the configuration says how long."""
        for model in self._settings.models:
            stated = self._settings.keep_alive_of(model)
            try:
                (await gateway.model(model, FOR_GOOD if stated is None else stated)).release()
            except DiptychError as error:
                log.error("%s is not loaded: %s", model, error.message)

    def _signal(self) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(130)  # the runners see it, and end
        self._stopping.set()
