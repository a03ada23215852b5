"""Detects loads that have stalled: by what the runner reports, or by its processor time when it does not respond. No MLX."""

import sys
import time
from pathlib import Path
from typing import NamedTuple

STALL = 30.0  # seconds without activity after which a load is given up
WARNING = 10.0  # seconds without activity after which there is a warning in the log
MIN_PROCESSOR_S = 0.01  # waiting threads use less in minutes, however often they wake
MIN_GROWTH = 2**20  # bytes of memory; reading weights takes more
MAX_INTERVAL_S = 5.0  # of two checks; beyond it, the checking process was itself suspended


class Counters(NamedTuple):
    """Numbers of a process that grow while it works."""

    progress: float
    processor: float
    peak: int
    reads: int

    def beyond(self, earlier: "Counters") -> bool:
        return (
            self.progress > earlier.progress
            or self.processor > earlier.processor + MIN_PROCESSOR_S
            or self.peak > earlier.peak + MIN_GROWTH
            or self.reads > earlier.reads
        )


class Activity:
    """How long the load in this process has been idle: no progress, no processor time, nothing read.

    Use it from the event loop's thread only, whose own processor time does not count.
    """

    def __init__(self) -> None:
        self._last = _counters(0.0)
        self._at = time.monotonic()

    def idle(self, progress: float) -> float:
        """Seconds since the last activity."""
        now, counters = time.monotonic(), _counters(progress)
        if counters.beyond(self._last):
            self._last, self._at = counters, now
        return now - self._at


def _counters(progress: float) -> Counters:
    processor = time.process_time() - time.thread_time()
    if sys.platform == "win32":
        return Counters(progress, processor, 0, 0)
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024
    return Counters(progress, processor, usage.ru_maxrss * unit, usage.ru_inblock + usage.ru_majflt)


class LoadWatch:
    """How long a runner's load has been idle, as seen from its parent."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._processor = processor_time(pid)
        self._looked = time.monotonic()
        self.idle = 0.0

    def answered(self, idle: float) -> None:
        """It reported how long it has been idle."""
        self.idle = idle
        self._look()

    def silent(self) -> None:
        """It did not respond: it may be importing or compiling, or it may be stopped."""
        elapsed, active = self._look()
        self.idle = 0.0 if active else self.idle + elapsed

    def _look(self) -> tuple[float, bool]:
        """Seconds since the last check, and whether the process may have been active since."""
        now, processor = time.monotonic(), processor_time(self._pid)
        elapsed = min(now - self._looked, MAX_INTERVAL_S)
        active = processor is None or processor != self._processor
        self._looked, self._processor = now, processor
        return elapsed, active


def processor_time(pid: int) -> int | None:
    """Processor time of a process in clock ticks; None where the system does not provide it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    except (OSError, IndexError, ValueError):
        return None
