"""Several runners of one model behind one name; a request goes to the least busy.

They are loaded and ended together; of those on other machines it is enough that one is there. When one dies, its requests
fail and it is restarted while the others serve; when none is left, the model counts as dead.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from runner.clock import AwakeClock
from runner.errors import DiptychError
from runner.gateway.backend import Endpoint, ReplicaState
from runner.gateway.backoff import CrashBackoff
from runner.gateway.peer import Peer
from runner.process.supervisor import Report, Server

log = logging.getLogger("diptych.gateway")

# Seconds between a death and the restart, in which the system reclaims memory.
RESTART_DELAY_S = 0.5
# Asking another machine whether it is back costs nothing.
LONGEST_PAUSE_ELSEWHERE_S = 10.0


Runner = Server | Peer


@dataclass(eq=False)
class Replica:
    """One place, and the runner that fills it now."""

    server: Runner
    ready: bool = False
    active: int = 0
    progress: float = 0.0
    last_response: float = 0.0  # on the AwakeClock
    backoff: CrashBackoff = field(default_factory=CrashBackoff)


class Replicas:
    """A `Backend`. `make` creates the runner for a place. `apart`: each has a card of its own, so the memory of one
    counts. `unresponsive`: seconds without a response after which a runner is killed. `all_start`: whether it is a failure
    if some do not start at first."""

    def __init__(
        self,
        make: Callable[[int], Runner],
        count: int,
        apart: bool,
        unresponsive: float,
        on_death: Callable[[], None],
        all_start: bool = True,
    ) -> None:
        self._make = make
        self._all_start = all_start
        self._apart = apart
        self._unresponsive = unresponsive
        self._clock = AwakeClock()
        self._on_death = on_death
        self._places = [_place(make(index)) for index in range(count)]
        self._watches: list[asyncio.Task[None]] = []
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    # -- leases

    def pick(self) -> Runner:
        place = min(self._places, key=lambda place: (not place.ready, place.active))
        place.active += 1
        return place.server

    def instead(self, of: Runner, here: bool) -> Runner | None:
        """Another one that is ready, on this machine if it must be `here`."""
        places = [place for place in self._places if place.ready and place.server is not of]
        if here:
            places = [place for place in places if isinstance(place.server, Server)]
        return min(places, key=lambda place: place.active).server if places else None

    def give_back(self, endpoint: Endpoint) -> None:
        for place in self._places:
            if place.server is endpoint:
                place.active -= 1

    # -- lifecycle

    async def start(self, on_progress: Report) -> None:
        """Return once all are ready, or have failed; unless some may, a failure of one ends all."""

        def report(place: Replica, progress: float) -> None:
            place.progress = progress
            on_progress(self.progress)

        async def start(place: Replica) -> None:
            await place.server.start(lambda progress: report(place, progress))
            place.ready, place.last_response = True, self._clock.time()

        starts = [asyncio.create_task(start(place)) for place in self._places]
        try:
            results = await asyncio.gather(*starts, return_exceptions=not self._all_start)
            failures = [_failure(result) for result in results]
            if None not in failures:
                raise next(failure for failure in failures if failure)
        except BaseException:
            for task in starts:
                task.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            await self.kill()
            raise
        self._watches = [
            asyncio.create_task(self._watch(index, failure.message if failure else None))
            for index, failure in enumerate(failures)
        ]

    async def close(self) -> None:
        self._stop_watching()
        self._clock.close()
        await asyncio.gather(*(place.server.close() for place in self._places))

    async def kill(self, why: str = "") -> None:
        self._stop_watching()
        await asyncio.gather(*(place.server.kill(why) for place in self._places))
        self._end(why)

    async def wait(self) -> str:
        """Return when none is left, with the last error of the last."""
        return await self._ended

    def _stop_watching(self) -> None:
        for watch in self._watches:
            watch.cancel()

    def _end(self, reason: str) -> None:
        self._clock.close()
        if not self._ended.done():
            self._ended.set_result(reason)

    async def _watch(self, index: int, reason: str | None) -> None:
        """Restart the runner of one place whenever it dies, as long as another is ready. `reason`: why it is not ready."""
        place = self._places[index]
        while True:
            if reason is None:
                reason = await place.server.wait()
            place.ready = False
            while reason is not None:
                if not any(other.ready for other in self._places):
                    self._end(reason)
                    return
                await self._pause(index, reason)
                reason = await self._restart(index)

    async def _pause(self, index: int, reason: str) -> None:
        self._on_death()
        place = self._places[index]
        again = reason == place.backoff.reason  # a machine may be off for days
        place.backoff.record_death(reason, time.monotonic())
        pause = max(RESTART_DELAY_S, place.backoff.remaining(time.monotonic()))
        label = f"runner {index + 1} of {len(self._places)} of {place.server.model_path}"
        log.log(
            logging.DEBUG if again else logging.ERROR,
            "%s died: %s; it is restarted in %.1f s",
            label,
            reason,
            pause,
        )
        await asyncio.sleep(pause)

    async def _restart(self, index: int) -> str | None:
        """None, or the reason why it did not start."""
        place = self._places[index]
        place.server, place.active = self._make(index), 0
        try:
            await place.server.start()
        except DiptychError as error:
            return error.message
        place.ready, place.last_response = True, self._clock.time()
        return None

    # -- status

    async def refresh(self) -> None:
        """Kills those that have not responded for too long; raises an error only when none responds."""
        ready = [place for place in self._places if place.ready]
        results = await asyncio.gather(*(place.server.refresh() for place in ready), return_exceptions=True)
        for place, result in zip(ready, results, strict=True):
            if not isinstance(result, BaseException):
                place.last_response = self._clock.time()
            elif not isinstance(result, DiptychError):
                raise result
            elif self._clock.time() - place.last_response > self._unresponsive:
                await place.server.kill("it did not answer its health check")
        errors = [result for result in results if isinstance(result, DiptychError)]
        if errors and len(errors) == len(ready):
            raise errors[0]

    async def cancel(self, id: str) -> bool:
        cancelled = False
        for place in self._places:
            if place.ready and place.active:
                with suppress(DiptychError):
                    cancelled |= await place.server.cancel(id)
        return cancelled

    @property
    def memory_size(self) -> int:
        """Of the fullest card, or of all runners where they share a processor."""
        sizes = [place.server.memory_size for place in self._places if place.ready]
        return max(sizes, default=0) if self._apart else sum(sizes)

    @property
    def context_length(self) -> int:
        return next((place.server.context_length for place in self._places if place.ready), 0)

    @property
    def progress(self) -> float:
        return sum(place.progress for place in self._places) / len(self._places)

    @property
    def pid(self) -> int | None:
        """Of the first that is ready."""
        return min(self._places, key=lambda place: not place.ready).server.pid

    @property
    def replicas(self) -> list[ReplicaState]:
        return [ReplicaState(place.server.pid, place.ready, place.active) for place in self._places]


def _failure(result: BaseException | None) -> DiptychError | None:
    """Why a start has failed, if it has; what is no failure of a start is raised."""
    if result is None or isinstance(result, DiptychError):
        return result
    raise result


def _place(runner: Runner) -> Replica:
    if isinstance(runner, Peer):
        return Replica(runner, backoff=CrashBackoff(LONGEST_PAUSE_ELSEWHERE_S))
    return Replica(runner)
