"""An event loop on a thread of its own, so that a command can wait for its user while a server is looked after."""

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

# Windows notices a Ctrl-C only between two waits.
GLANCE = 0.5


class Background:
    """`run` waits for a coroutine on the loop; a Ctrl-C meanwhile cancels it, waits for its end, and is raised."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # Not a daemon: Linux ends a child that asked for it when the thread ends that started it.
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
            # Calls keep their order: the work has begun by then, or never will.
            self._loop.call_soon_threadsafe(cancel)
            _wait(ended)
            raise
        return tasks[0].result()


def _wait(ended: threading.Event) -> None:
    while not ended.wait(GLANCE):
        continue
