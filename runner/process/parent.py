"""Ends a child process with its parent, however the parent ends, so that no orphan occupies a GPU."""

import contextlib
import ctypes
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1
KILL_AFTER_S = 7.0  # from SIGTERM to a hard exit


def die_with_parent() -> None:
    """Exit when the parent, which holds the other end of our stdin, is gone.

    The kernel closes the pipe even when the parent is killed. The exit is orderly if possible; on Linux, the kernel kills
    even a process that is stuck holding the interpreter lock.
    """
    if sys.platform == "linux":
        # Optional: where the kernel refuses it, there is still the pipe.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, name="parent", daemon=True).start()


def _watch() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            continue  # nothing is ever sent over it
    signal.raise_signal(signal.SIGTERM) if sys.platform == "win32" else os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(KILL_AFTER_S)
    os._exit(1)
