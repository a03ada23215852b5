"""Several runners of one model, behind one name: a request goes to the least busy of them.

They are loaded and ended together. One that dies takes its own requests with it, and is started again while the others
serve; when none is left, the model has died.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from msgspec import Struct

from runner.clock import AwakeClock
from runner.errors import DiptychError
from runner.gateway.backoff import CrashBackoff
from runner.process.supervisor import Report, Server

log = logging.getLogger("diptych.gateway")

# Seconds from a death to the next life: what was held is given back in the meantime.
BREATH = 0.5


class ReplicaState(Struct, frozen=True):
    """One of them, as /models shows it."""

    pid: int | None
    ready: bool
    active: int


@dataclass(eq=False)
class Replica:
    """One place, and who holds it now."""

    server: Server
    ready: bool = False
    active: int = 0
    progress: float = 0.0
    heard: float = 0.0  # when it last answered, in seconds that we were awake
    holdoff: CrashBackoff = field(default_factory=CrashBackoff)


class Replicas:
    """As the fleet sees it, one `Server`. `make` gives a new one for a place. `apart`: each has a card of its own, so
    that memory is counted of one. `unresponsive`: seconds without an answer after which one is killed."""

    def __init__(
        self,
        make: Callable[[int], Server],
        count: int,
        apart: bool,
        unresponsive: float,
        on_death: Callable[[], None],
    ) -> None:
        self._make = make
        self._apart = apart
        self._unresponsive = unresponsive
        self._clock = AwakeClock()
        self._on_death = on_death
        self._places = [Replica(make(place)) for place in range(count)]
        self._watches: list[asyncio.Task[None]] = []
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    # -- who gets which

    def pick(self) -> Server:
        """The least busy one; `give_back` when it is done with."""
        place = min(self._places, key=lambda place: (not place.ready, place.active))
        place.active += 1
        return place.server

    def give_back(self, server: Server) -> None:
        for place in self._places:
            if place.server is server:
                place.active -= 1

    # -- their life

    async def start(self, on_progress: Report) -> None:
        """Return once all are healthy; what is wrong with one ends all."""

        def heard(place: Replica, progress: float) -> None:
            place.progress = progress
            on_progress(self.progress)

        async def start(place: Replica) -> None:
            await place.server.start(lambda progress: heard(place, progress))
            place.ready, place.heard = True, self._clock.time()

        starts = [asyncio.create_task(start(place)) for place in self._places]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            for task in starts:
                task.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            await self.kill()
            raise
        self._watches = [asyncio.create_task(self._watch(index)) for index in range(len(self._places))]

    async def close(self) -> None:
        self._stop_watching()
        self._clock.close()
        await asyncio.gather(*(place.server.close() for place in self._places))

    async def kill(self, why: str = "") -> None:
        self._stop_watching()
        await asyncio.gather(*(place.server.kill(why) for place in self._places))
        self._end(why)

    async def wait(self) -> str:
        """Until none is left; the last words of the last."""
        return await self._over

    def _stop_watching(self) -> None:
        for watch in self._watches:
            watch.cancel()

    def _end(self, words: str) -> None:
        self._clock.close()
        if not self._over.done():
            self._over.set_result(words)

    async def _watch(self, index: int) -> None:
        """One place, for as long as another is held: who dies there is followed by another."""
        place = self._places[index]
        while True:
            words: str | None = await place.server.wait()
            place.ready = False
            while words is not None:
                if not any(other.ready for other in self._places):
                    self._end(words)
                    return
                await self._pause(index, words)
                words = await self._replace(index)

    async def _pause(self, index: int, words: str) -> None:
        self._on_death()
        place = self._places[index]
        place.holdoff.died(words, time.monotonic())
        pause = max(BREATH, place.holdoff.remaining(time.monotonic()))
        whose = f"runner {index + 1} of {len(self._places)} of {place.server.model_path}"
        log.error("%s died: %s; another follows in %.1f s", whose, words, pause)
        await asyncio.sleep(pause)

    async def _replace(self, index: int) -> str | None:
        """Start another; why it did not start, if it did not."""
        place = self._places[index]
        place.server, place.active = self._make(index), 0
        try:
            await place.server.start()
        except DiptychError as error:
            return error.message
        place.ready, place.heard = True, self._clock.time()
        return None

    # -- what they tell

    async def refresh(self) -> None:
        """Hear all; those that have not answered for too long are killed. What is wrong is raised when none answers."""
        ready = [place for place in self._places if place.ready]
        said = await asyncio.gather(*(place.server.refresh() for place in ready), return_exceptions=True)
        for place, answer in zip(ready, said, strict=True):
            if not isinstance(answer, BaseException):
                place.heard = self._clock.time()
            elif not isinstance(answer, DiptychError):
                raise answer
            elif self._clock.time() - place.heard > self._unresponsive:
                await place.server.kill("it did not answer its health check")
        wrong = [answer for answer in said if isinstance(answer, DiptychError)]
        if wrong and len(wrong) == len(ready):
            raise wrong[0]

    async def cancel(self, id: str) -> bool:
        """Stop the requests of this id, wherever they are."""
        found = False
        for place in self._places:
            if place.ready and place.active:
                with suppress(DiptychError):
                    found |= await place.server.cancel(id)
        return found

    @property
    def memory_size(self) -> int:
        """Of the card that holds most, or of all where they share."""
        sizes = [place.server.memory_size for place in self._places if place.ready]
        return max(sizes, default=0) if self._apart else sum(sizes)

    @property
    def context_length(self) -> int:
        return self._places[0].server.context_length

    @property
    def progress(self) -> float:
        return sum(place.progress for place in self._places) / len(self._places)

    @property
    def pid(self) -> int | None:
        """Of the first that serves."""
        return min(self._places, key=lambda place: not place.ready).server.pid

    def state(self) -> list[ReplicaState]:
        """Each, as /models shows it."""
        return [ReplicaState(place.server.pid, place.ready, place.active) for place in self._places]
