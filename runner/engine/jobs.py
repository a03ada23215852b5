"""What passes between the event loop and the GPU thread: jobs, their events, and the worker's interface."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol

from msgspec import Struct

Event = Struct | Future[Struct]


class Job:
    """One request on its way through the engine. Made and read on the event loop; the GPU thread only sees its
    request, its `cancelled` flag and what the worker keeps in `state`."""

    def __init__(self, id: str, request: Any, priority: int = 0) -> None:
        self.id = id
        self.request = request
        self.priority = priority
        self.cancelled = False
        self.state: Any = None
        self.status = 500  # of the answer, should the job fail before its first event
        self.submitted = time.perf_counter()
        self.late: deque[JobEvent] = deque()  # events that wait for a future, in their order
        self._events: deque[Struct] = deque()
        self._arrived = asyncio.Event()
        self._over = False

    @property
    def over(self) -> bool:
        """Whether the last event has come."""
        return self._over

    def put(self, event: Struct, last: bool) -> None:
        """On the event loop: one more event for the reader."""
        if self._over:
            return
        self._events.append(event)
        self._over = last
        self._arrived.set()

    @property
    def unread(self) -> int:
        return len(self._events)

    async def batches(self) -> AsyncIterator[list[Struct]]:
        """The events, as many at a time as have arrived, until the last."""
        while True:
            while not self._events:
                if self._over:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            batch = list(self._events)
            self._events.clear()
            yield batch


class JobEvent(Struct, frozen=True):
    """An event on its way from the GPU thread to its job. `last`: the job has ended.

    The event may be a future that another thread completes while the GPU thread goes on; the job's later events wait
    for it. A future that fails ends the job.
    """

    job: Job
    event: Event
    last: bool = False


class Worker(Protocol):
    """What the GPU thread drives. Every method but `stats` is called on that thread."""

    @property
    def busy(self) -> bool:
        """Whether `step` has anything to do."""

    @property
    def room(self) -> int:
        """How many more jobs `admit` would take now."""

    def admit(self, job: Job) -> None:
        """Begin a job. An exception ends only that job."""

    def step(self) -> Iterable[JobEvent]:
        """A bounded piece of work for all jobs."""

    def background(self) -> Iterator[None]:
        """Work for times without jobs, in bounded pieces. It is closed when a job comes, and called again after it."""

    def drop(self, job: Job) -> None:
        """Forget a cancelled job, whatever its state."""

    def recover(self) -> Iterable[Job]:
        """Restore a clean state after a step that raised; the jobs that were lost."""

    def close(self) -> None:
        """Release what the thread owns; the thread ends afterwards."""

    def stats(self) -> dict[str, Any]:
        """Plain numbers about memory and caches, from any thread."""
