"""Waits until a runner that was started is healthy: its port, its progress, its timeouts. No MLX."""

import asyncio
import logging
import os
from collections.abc import Callable

from runner.clock import awake_timeout
from runner.errors import BadRequest, RunnerFailed
from runner.process.child import Child
from runner.process.client import Client, ConnectionLost
from runner.process.last_error import MAX_ERROR_BYTES
from runner.process.responses import read_object
from runner.process.stalls import STALL, WARNING, LoadWatch
from runner.units import parse_duration, show_duration

log = logging.getLogger("diptych.server")

POLL_S = 0.1
# A runner that has not responded for this long may be stuck; its processor time shows it.
HEALTH_TIMEOUT_S = 2.0
LOAD_TIMEOUT = 300.0  # seconds without progress
EXIT_S = 1.0  # time for a process to exit after it has closed its output


class Startup:
    """`limit`: seconds that a load may take without progress. With None there is no limit, and no check for stalls."""

    def __init__(self, model: str, child: Child, key: str | None, limit: float | None) -> None:
        self._model = model
        self._child = child
        self._key = key
        self._limit = limit
        self._watch = LoadWatch(child.pid)
        self._progress = 0.0
        self._warned = False

    async def wait(self, on_listen: Callable[[Client], None], on_progress: Callable[[float], None]) -> None:
        """Return when it is healthy; RunnerFailed when it will not be."""
        try:
            async with awake_timeout(self._limit) as timer:
                client = Client(await self._read_port(), self._key)
                on_listen(client)
                while (progress := await self._poll(client)) is not None:
                    if progress > self._progress:
                        self._progress = progress
                        timer.restart()
                        on_progress(progress)
                    self._check_stall()
                    await self._child.ended(POLL_S)
        except TimeoutError:
            raise self._stuck(f"for {show_duration(self._limit or 0)} (DIPTYCH_LOAD_TIMEOUT)") from None
        on_progress(1.0)

    async def _read_port(self) -> int:
        """The port that the runner has bound, which it prints as its first line."""
        printed = asyncio.ensure_future(self._child.first_line())
        while not (await asyncio.wait([printed], timeout=HEALTH_TIMEOUT_S))[0]:
            self._watch.silent()
            self._check_stall()
        line = printed.result()
        if not line.isdigit():
            await self._child.ended(EXIT_S)
            exited = self._child.has_exited
            raise RunnerFailed(
                self._child.last_words
                if exited
                else f"the runner printed {line[:MAX_ERROR_BYTES]!r} instead of its port"
            )
        return int(line)

    async def _poll(self, client: Client) -> float | None:
        """The progress of a runner that is loading; None when it is healthy."""
        if self._child.has_exited:
            await self._child.wait()
            raise RunnerFailed(self._child.last_words)
        try:
            async with awake_timeout(HEALTH_TIMEOUT_S):
                answer = await client.request("GET", "/health")
                health = await read_object(answer)
        except (ConnectionLost, TimeoutError):
            self._watch.silent()  # exiting (the next poll sees that), suspended, or too busy
            return self._progress
        self._watch.answered(float(health.get("idle", 0.0)))
        return None if answer.status == 200 else float(health.get("progress", self._progress))

    def _check_stall(self) -> None:
        """Warn of a load without activity, and give it up if that lasts."""
        idle = self._watch.idle
        if self._limit is None:
            return
        if idle > STALL:
            raise self._stuck(
                f"and made no progress for {show_duration(STALL)}: it is suspended, or waiting for a file"
            )
        if idle > WARNING and not self._warned:
            log.warning("%s is %.0f%% loaded and makes no progress", self._model, 100 * self._progress)
        self._warned = idle > WARNING

    def _stuck(self, how_long: str) -> RunnerFailed:
        return RunnerFailed(
            f"{self._model} did not become ready: it was {self._progress:.0%} loaded {how_long}; "
            f"the last error in its log: {self._child.last_error or 'none'}"
        )


def default_load_timeout() -> float:
    """DIPTYCH_LOAD_TIMEOUT, a duration; no limit for zero and below."""
    duration = os.environ.get("DIPTYCH_LOAD_TIMEOUT")
    try:
        return parse_duration(duration) if duration else LOAD_TIMEOUT
    except ValueError as error:
        raise BadRequest(f"DIPTYCH_LOAD_TIMEOUT: {error}") from None
