"""When a runner that keeps crashing may be restarted."""

from collections import deque

WINDOW = 60.0
MAX_DEATHS = 3
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0


class CrashBackoff:
    """After three deaths within a minute there is a pause before the next start; each further death doubles it.

    A minute without a death after a pause resets it. Times are seconds of a monotonic clock.
    """

    def __init__(self, longest: float = LONGEST_PAUSE) -> None:
        self._longest = longest
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS)
        self._pause = 0.0
        self._until = 0.0
        self.reason = ""

    def record_death(self, reason: str, now: float) -> None:
        if self._deaths and now - self._deaths[-1] > self._pause + WINDOW:
            self._deaths.clear()
            self._pause = 0.0
        self._deaths.append(now)
        self.reason = reason
        repeated = len(self._deaths) == MAX_DEATHS and now - self._deaths[0] <= WINDOW
        if repeated or self._pause:
            self._pause = min(max(2 * self._pause, FIRST_PAUSE), self._longest)
            self._until = now + self._pause

    def remaining(self, now: float) -> float:
        """Seconds until the next start is allowed; 0 when it is allowed now."""
        return max(0.0, self._until - now)
