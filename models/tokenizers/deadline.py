"""Runs Python code with a time limit, and stops it when the time is over."""

import ctypes
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger("diptych.deadline")

# An exception raised during Python's cleanup code is lost, so it is sent repeatedly: so many times, so many seconds apart.
TRIES, APART = 20, 0.05


class OutOfTime(Exception):
    """The work took too long and was stopped."""


class _Stop(BaseException):
    """A BaseException, so that the work's own error handlers do not catch it."""


def within(seconds: float, work: Callable[[], T]) -> T:
    """Returns or raises what `work` does; raises OutOfTime if it takes longer.

    It runs in its own thread and is stopped between two Python instructions: a loop is stopped, but a long call of a C
    function finishes first.
    """
    done: Future[T] = Future()

    def run() -> None:
        with suppress(_Stop):  # it may arrive late
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
        if done.done():  # raised by the work itself
            raise
    _stop(thread)
    raise OutOfTime


def _stop(thread: threading.Thread) -> None:
    for _ in range(TRIES):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Stop))
        thread.join(APART)
        if not thread.is_alive():
            return
    log.warning("work that ran out of time is still running in a C function")
