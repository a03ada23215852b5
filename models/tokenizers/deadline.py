"""Work in Python that may go on for ever, and is stopped when its time is over."""

import ctypes
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger("diptych.deadline")

# An exception that arrives while Python cleans something up is lost there: it is sent again so often, so many seconds
# apart.
TRIES, APART = 20, 0.05


class OutOfTime(Exception):
    """The work was stopped."""


class _Stop(BaseException):
    """Passes whatever handles errors on its way out of the work."""


def within(seconds: float, work: Callable[[], T]) -> T:
    """What the work returns or raises; OutOfTime when it takes longer.

    It runs on a thread of its own, which is stopped between two of Python's instructions: a loop ends, one long call of
    a C function ends before.
    """
    done: Future[T] = Future()

    def run() -> None:
        with suppress(_Stop):  # it may come late
            try:
                result = work()
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(result)

    thread = threading.Thread(target=run, name="deadline", daemon=True)
    thread.start()
    try:
        return done.result(seconds)
    except TimeoutError:
        if done.done():  # the work's own
            raise
    _stop(thread)
    raise OutOfTime


def _stop(thread: threading.Thread) -> None:
    for _ in range(TRIES):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Stop))
        thread.join(APART)
        if not thread.is_alive():
            return
    log.warning("work that was given up still goes on in a C function")
