"""Processes that tests start: which of them run, and how none of them outlives a test that fails or is interrupted."""

import os
import signal
import sys
from pathlib import Path

# `python -m runner`, for a Popen whose stdin is a PIPE: it ends with us, however we end.
RUN = (
    sys.executable,
    "-c",
    "from runner.process.parent import die_with_parent; die_with_parent(); from runner.cli.main import main; main()",
)

# Linux lists them; elsewhere a failed test may leave its processes.
_CHILDREN = Path("/proc/self/task")


def children() -> set[int]:
    """The processes that this one has started and that are still there."""
    actual: set[int] = set()
    for task in _CHILDREN.glob("*/children"):
        try:
            actual.update(map(int, task.read_text().split()))
        except OSError:
            continue  # the thread has ended
    return actual


def ended(pid: int) -> bool:
    """Whether it runs no more, waited for by its parent or not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return Path("/proc/self").exists()


def sleeping(pid: int) -> bool:
    """Whether its main thread waits in a call of the system's. Where the system does not say, it is taken to do so."""
    try:
        return ") S" in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return not Path("/proc/self").exists()


def end(pids: set[int]) -> None:
    """Kill these. Runners that they have started end by themselves with them."""
    for pid in pids:
        if not ended(pid):
            os.kill(pid, signal.SIGKILL)
