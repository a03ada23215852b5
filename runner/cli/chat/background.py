"""An event loop on its own thread, so that connections are served while a command waits for input."""

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

# On Windows, Ctrl-C is noticed only between two waits.
POLL_S = 0.5


class Background:
    """`run` waits for a coroutine on the loop. Ctrl-C cancels it, waits for it to end, and is raised again."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # Not a daemon thread: on Linux, a runner can be set to end with the thread that started it.
        self._thread = threading.Thread(target=self._loop.run_forever, name="background")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        tasks: list[asyncio.Task[T]] = []
        ended = threading.Event()

        def begin() -> None:
            tasks.append(self._loop.create_task(work))
            tasks[0].add_done_callback(lambda task: ended.set())

        def cancel() -> None:
            if tasks:
                tasks[0].cancel()
            else:
                work.close()
                ended.set()

        try:
            self._loop.call_soon_threadsafe(begin)
            _wait(ended)
        except KeyboardInterrupt:
            # Calls run in order, so `begin` has run by then.
            self._loop.call_soon_threadsafe(cancel)
            _wait(ended)
            raise
        return tasks[0].result()


def _wait(ended: threading.Event) -> None:
    while not ended.wait(POLL_S):
        continue
