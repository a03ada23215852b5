"""Whether a load still does something: as its runner tells, and where that does not answer, as the system does. No MLX."""

import sys
import time
from pathlib import Path
from typing import NamedTuple

STALL = 30.0  # seconds without a sign of work after which a load is given up
WARNING = 10.0  # after which the log says so
WORK = 0.01  # seconds of processor: threads that wait take less in minutes, however often they wake
PEAK = 2**20  # bytes by which the memory grows when something is read into it
LONGEST_LOOK = 5.0  # two looks further apart mean that those who look stood still themselves


class Signs(NamedTuple):
    """What grows while a process works."""

    progress: float
    processor: float
    peak: int
    reads: int

    def beyond(self, earlier: "Signs") -> bool:
        return (
            self.progress > earlier.progress
            or self.processor > earlier.processor + WORK
            or self.peak > earlier.peak + PEAK
            or self.reads > earlier.reads
        )


class Activity:
    """How long the load in this process has done nothing: no progress, no arithmetic or compiling, nothing read.

    To be asked on one thread, the event loop's, whose own work does not count.
    """

    def __init__(self) -> None:
        self._signs = _signs(0.0)
        self._at = time.monotonic()

    def idle(self, progress: float) -> float:
        """Seconds since it last did something."""
        now, signs = time.monotonic(), _signs(progress)
        if signs.beyond(self._signs):
            self._signs, self._at = signs, now
        return now - self._at


def _signs(progress: float) -> Signs:
    processor = time.process_time() - time.thread_time()
    if sys.platform == "win32":
        return Signs(progress, processor, 0, 0)
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024
    return Signs(progress, processor, usage.ru_maxrss * unit, usage.ru_inblock + usage.ru_majflt)


class LoadWatch:
    """For how long a runner's load has shown no sign of work, looked at from its parent."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._processor = processor_time(pid)
        self._looked = time.monotonic()
        self.idle = 0.0

    def answered(self, idle: float) -> None:
        """The runner told how long it has done nothing."""
        self.idle = idle
        self._look()

    def silent(self) -> None:
        """It does not answer: it may be importing or compiling, or it may be stopped."""
        elapsed, works = self._look()
        self.idle = 0.0 if works else self.idle + elapsed

    def _look(self) -> tuple[float, bool]:
        """Seconds since the last look, and whether the process did something meanwhile, or nobody can tell."""
        now, processor = time.monotonic(), processor_time(self._pid)
        elapsed = min(now - self._looked, LONGEST_LOOK)
        works = processor is None or processor != self._processor
        self._looked, self._processor = now, processor
        return elapsed, works


def processor_time(pid: int) -> int | None:
    """What a process has taken of the processor, in the system's ticks; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    except (OSError, IndexError, ValueError):
        return None
