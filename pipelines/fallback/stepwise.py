"""A call that reports as it goes, as a generator of its reports: it goes on when the next one is asked for, and not
before.

The call runs on a thread of its own, in turns with whoever drives the generator. Closing the generator ends the call
at its report.
"""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

Said = TypeVar("Said")
Result = TypeVar("Result")


class Stopped(BaseException):
    """Raised where the call reports, when nobody wants what it makes any more. No Exception: the call's own handlers
    are not to take it for a failure of theirs."""


def stepwise(call: Callable[[Callable[[Said], None]], Result]) -> Generator[Said, None, Result]:
    """Yields what `call` reports, and returns what it returns; what it raises is raised here."""
    said: SimpleQueue[Said | Future[Result]] = SimpleQueue()  # its future is the last it says
    wanted: SimpleQueue[bool] = SimpleQueue()

    def report(event: Said) -> None:
        said.put(event)
        if not wanted.get():
            raise Stopped

    def run() -> None:
        outcome: Future[Result] = Future()
        try:
            outcome.set_result(call(report))
        except BaseException as error:
            outcome.set_exception(error)
        said.put(outcome)

    thread = threading.Thread(target=run, name="torch", daemon=True)
    thread.start()
    try:
        while not isinstance(event := said.get(), Future):
            yield event
            wanted.put(True)
        return event.result()
    finally:
        wanted.put(False)
        thread.join()
