"""From a runner's process to a healthy runner: its port, its progress, and when it is given up. No MLX."""

import asyncio
import logging
from collections.abc import Callable

from runner.clock import awake_timeout
from runner.errors import RunnerFailed
from runner.process.child import Child
from runner.process.client import Broken, Client
from runner.process.last_error import MAX_ERROR_BYTES
from runner.process.responses import read_object
from runner.process.stalls import STALL, WARNING, LoadWatch
from runner.units import show_duration

log = logging.getLogger("diptych.server")

POLL = 0.1  # seconds between looks
LOOK = 2.0  # seconds in which a runner that works answers; longer, and the system is asked whether it works
GOING = 1.0  # seconds that a process may take to end after it has closed its output


class Startup:
    """One runner's. `limit`: seconds for which its progress may stand still; None for any time, and then it may also do
    nothing."""

    def __init__(self, model: str, child: Child, key: str | None, limit: float | None) -> None:
        self._model = model
        self._child = child
        self._key = key
        self._limit = limit
        self._watch = LoadWatch(child.pid)
        self._progress = 0.0
        self._warned = False

    async def wait(self, on_listen: Callable[[Client], None], on_progress: Callable[[float], None]) -> None:
        """Return when it is healthy; a RunnerFailed says why it is not going to be."""
        try:
            async with awake_timeout(self._limit) as timer:
                client = Client(await self._read_port(), self._key)
                on_listen(client)
                while (progress := await self._look(client)) is not None:
                    if progress > self._progress:
                        self._progress = progress
                        timer.restart()
                        on_progress(progress)
                    self._check_stall()
                    await self._child.ended(POLL)
        except TimeoutError:
            raise self._stuck(f"for {show_duration(self._limit or 0)} (DIPTYCH_LOAD_TIMEOUT)") from None
        on_progress(1.0)

    async def _read_port(self) -> int:
        """The port the runner took: it prints it as soon as it listens, so that no other can come between."""
        printed = asyncio.ensure_future(self._child.first_line())
        while not (await asyncio.wait([printed], timeout=LOOK))[0]:
            self._watch.silent()
            self._check_stall()
        line = printed.result()
        if not line.isdigit():
            await self._child.ended(GOING)
            exited = self._child.has_exited
            raise RunnerFailed(
                self._child.last_words if exited else f"no port but {line[:MAX_ERROR_BYTES]!r}"
            )
        return int(line)

    async def _look(self, client: Client) -> float | None:
        """How far a loading runner is; None when it is healthy."""
        if self._child.has_exited:
            await self._child.wait()
            raise RunnerFailed(self._child.last_words)
        try:
            async with awake_timeout(LOOK):
                answer = await client.request("GET", "/health")
                health = await read_object(answer)
        except (Broken, TimeoutError):
            self._watch.silent()  # ending, which the next look sees, or stopped, or too busy to answer
            return self._progress
        self._watch.answered(float(health.get("idle", 0.0)))
        return None if answer.status == 200 else float(health.get("progress", self._progress))

    def _check_stall(self) -> None:
        """Say of a load that it does nothing, and give it up when it goes on so."""
        idle = self._watch.idle
        if self._limit is None:
            return
        if idle > STALL:
            raise self._stuck(
                f"and did nothing for {show_duration(STALL)}: it is stopped, or waits for a file"
            )
        if idle > WARNING and not self._warned:
            log.warning("%s stands at %.0f%% of its load and does nothing", self._model, 100 * self._progress)
        self._warned = idle > WARNING

    def _stuck(self, how_long: str) -> RunnerFailed:
        return RunnerFailed(
            f"{self._model} did not become ready: it stood at {self._progress:.0%} {how_long}; "
            f"the last error in its log: {self._child.last_error or 'none'}"
        )
