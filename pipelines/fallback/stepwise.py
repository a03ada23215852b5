"""Turns a call with a progress callback into a generator: the call pauses at each report until the next one is requested.

The call runs in its own thread, alternating with the consumer of the generator. Closing the generator ends the call at
its report.
"""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stopped(BaseException):
    """Raised where the call reports, once its generator is closed. A BaseException, so that the call's own error handlers do
    not catch it."""


def stepwise(call: Callable[[Callable[[Item], None]], Result]) -> Generator[Item, None, Result]:
    """Yields what `call` reports, and returns or raises what it does."""
    reports: SimpleQueue[Item | Future[Result]] = SimpleQueue()  # a future comes last
    resume: SimpleQueue[bool] = SimpleQueue()

    def report(event: Item) -> None:
        reports.put(event)
        if not resume.get():
            raise Stopped

    def run() -> None:
        outcome: Future[Result] = Future()
        try:
            outcome.set_result(call(report))
        except BaseException as error:
            outcome.set_exception(error)
        reports.put(outcome)

    thread = threading.Thread(target=run, name="torch", daemon=True)
    thread.start()
    try:
        while not isinstance(event := reports.get(), Future):
            yield event
            resume.put(True)
        return event.result()
    finally:
        resume.put(False)
        thread.join()
