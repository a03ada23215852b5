"""A clock that stands still while this process does: blocked by its own work, stopped, or without a processor.

Silence is only a fault of the other side when we could have heard something. An event loop that was held up for a minute
finds its timers overdue and the answers to its questions unread, in that order.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

# A pause is noticed to within this many seconds.
TICK = 0.25


class AwakeClock:
    """Seconds in which the running event loop was free to react. `close` it when it is no longer read."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lost = 0.0
        self._due = 0.0
        self._schedule()

    def time(self) -> float:
        """Seconds since some moment, less all pauses up to now, one that has only just ended included."""
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
    """What `awake_timeout` gives: `restart` grants the whole time again."""

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
            # Never at once: what arrived during a pause has to be read before anything is given up for it.
            self._arm(max(remaining, TICK))
        else:
            self._timeout.reschedule(asyncio.get_running_loop().time())


@contextlib.asynccontextmanager
async def awake_timeout(seconds: float | None) -> AsyncIterator[AwakeTimeout]:
    """As asyncio.timeout, for seconds of an AwakeClock; None never ends."""
    async with asyncio.timeout(None) as timeout:
        limit = AwakeTimeout(seconds, timeout, AwakeClock())
        try:
            yield limit
        finally:
            limit.close()
