"""When a runner that keeps dying may be started again."""

from collections import deque

WINDOW = 60.0
MOST_DEATHS = 3
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0


class CrashBackoff:
    """Three deaths within a minute, and the model is held off; each further one doubles the pause.

    A minute of life after a pause clears it. Times are seconds of a steady clock.
    """

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=MOST_DEATHS)
        self._pause = 0.0
        self._until = 0.0
        self.reason = ""

    def died(self, reason: str, now: float) -> None:
        if self._deaths and now - self._deaths[-1] > self._pause + WINDOW:
            self._deaths.clear()
            self._pause = 0.0
        self._deaths.append(now)
        self.reason = reason
        often = len(self._deaths) == MOST_DEATHS and now - self._deaths[0] <= WINDOW
        if often or self._pause:
            self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)
            self._until = now + self._pause

    def remaining(self, now: float) -> float:
        """Seconds until it may be started again; 0 when it may be now."""
        return max(0.0, self._until - now)
