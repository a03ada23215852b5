"""A child that ends with its parent, however the parent ends: no orphan keeps a GPU."""

import contextlib
import ctypes
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1
KILL_AFTER_S = 7.0  # seconds for an orderly end


def die_with_parent() -> None:
    """End this process when the one that holds the other end of its stdin is gone.

    The kernel closes that pipe with its holder, killed or not. An orderly end is asked for first; a process that is
    stuck, be it with the interpreter held, is killed by Linux itself.
    """
    if sys.platform == "linux":
        # Nothing depends on it: where it is refused, the pipe remains.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, name="parent", daemon=True).start()


def _watch() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            continue  # nothing is ever said over it
    signal.raise_signal(signal.SIGTERM) if sys.platform == "win32" else os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(KILL_AFTER_S)
    os._exit(1)
