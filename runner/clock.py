"""A clock that stops while this process cannot react: blocked by its own work, suspended, or starved of processor time.

A peer is only at fault for a missing response that we could have received. An event loop that was blocked for a minute
runs its overdue timers first, and reads the responses that arrived in the meantime only then.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

# The resolution, in seconds, with which pauses are noticed.
TICK = 0.25


class AwakeClock:
    """Counts the seconds in which the running event loop was able to react. `close` it after use."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lost = 0.0
        self._due = 0.0
        self._schedule()

    def time(self) -> float:
        """Monotonic seconds without the pauses so far, including one that has only just ended."""
        now = time.monotonic()
        return now - self._lost - max(0.0, now - self._due)

    def close(self) -> None:
        self._timer.cancel()

    def _schedule(self) -> None:
        self._due = time.monotonic() + TICK
        self._timer = self._loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        self._lost += max(0.0, time.monotonic() - self._due)
        self._schedule()


class AwakeTimeout:
    """The value of `awake_timeout`; `restart` begins the time anew."""

    def __init__(self, seconds: float | None, timeout: asyncio.Timeout, clock: AwakeClock) -> None:
        self._seconds = seconds
        self._timeout = timeout
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self.restart()

    def restart(self) -> None:
        if self._seconds is not None:
            self._until = self._clock.time() + self._seconds
            self._arm(self._seconds)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._clock.close()

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._fire)

    def _fire(self) -> None:
        remaining = self._until - self._clock.time()
        if remaining > 0:
            # Never at once: what arrived during a pause has to be read first.
            self._arm(max(remaining, TICK))
        else:
            self._timeout.reschedule(asyncio.get_running_loop().time())


@contextlib.asynccontextmanager
async def awake_timeout(seconds: float | None) -> AsyncIterator[AwakeTimeout]:
    """Like asyncio.timeout, in seconds of an AwakeClock; None means no limit."""
    async with asyncio.timeout(None) as timeout:
        limit = AwakeTimeout(seconds, timeout, AwakeClock())
        try:
            yield limit
        finally:
            limit.close()
