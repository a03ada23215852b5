"""The drawings that go on without their clients: a few at a time, in the order in which they came."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from typing import Any

from msgspec import Struct

from runner.api.gallery.job import Job, JobState
from runner.api.lease import DOES
from runner.errors import BadRequest, Busy, NotStored
from runner.gallery.gallery import Gallery
from runner.gateway.app import Gateway
from runner.protocol.image import parse_image
from runner.protocol.text import encode
from runner.sources import ModelMode

# While one is drawn, the next is prepared.
AT_ONCE = 2
MOST_WAITING = 200
MOST_BYTES = 512 * 1024**2  # of their input pictures
REMEMBERED = 30  # of those that are over
HEARTBEAT_S = 15.0


class JobList(Struct, frozen=True):
    jobs: list[JobState]


class JobChange(Struct, frozen=True):
    """A job that has changed; without one, a sign of life."""

    job: JobState | None = None


class Watcher:
    """A client that follows the jobs. It gets the latest state of what has changed, however slowly it reads."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.changed: dict[str, Job] = {}
        self.wake = asyncio.Event()


class Jobs:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._jobs: dict[str, Job] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._watchers: set[Watcher] = set()
        self._closing = False
        gateway.on_close(self.close)

    def of(self, owner: str) -> list[Job]:
        return [job for job in self._jobs.values() if job.owner == owner]

    async def start(self, gallery: Gallery, owner: str, body: dict[str, Any]) -> JobState:
        name = body.get("model")
        if not isinstance(name, str) or not name:
            raise BadRequest("model is missing; name a model that draws pictures")
        fields = {key: value for key, value in body.items() if key not in ("model", "progress", "stream")}
        request, warnings = await asyncio.to_thread(parse_image, fields)
        model = await self._gateway.pool.resolve(name)
        if model.mode is not ModelMode.IMAGE:
            raise BadRequest(f"model: {name} {DOES[model.mode]}; one that {DOES[ModelMode.IMAGE]} is needed")
        job = Job(secrets.token_hex(16), owner, name, request, warnings)
        self._check_room(job)
        self._jobs[job.state.id] = job
        job.task = asyncio.create_task(self._run(job, gallery))
        self._changed(job)
        return job.state

    def stop(self, owner: str, id: str) -> JobState:
        job = self._jobs.get(id)
        if job is None or job.owner != owner:
            raise NotStored(f"there is no drawing {id[:64]!r}")
        if job.task is not None and not job.over:
            job.task.cancel()
            if job.state.state == "queued":  # it may not have begun, and then notices nothing
                job.tell(state="stopped")
                self._changed(job)
        return job.state

    async def follow(self, owner: str) -> AsyncGenerator[bytes, None]:
        """All jobs of this owner, and then each change."""
        watcher = Watcher(owner)
        self._watchers.add(watcher)
        try:
            yield encode(JobList([job.state for job in self.of(owner)])) + b"\n"
            while not self._closing:
                try:
                    await asyncio.wait_for(watcher.wake.wait(), HEARTBEAT_S)
                except TimeoutError:
                    yield encode(JobChange()) + b"\n"
                watcher.wake.clear()
                changed, watcher.changed = watcher.changed, {}
                for job in changed.values():
                    yield encode(JobChange(job.state)) + b"\n"
        finally:
            self._watchers.discard(watcher)

    async def close(self) -> None:
        """The gateway stops: what is not finished is lost."""
        self._closing = True
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for watcher in self._watchers:
            watcher.wake.set()

    async def _run(self, job: Job, gallery: Gallery) -> None:
        async with self._slots:
            await job.draw(self._gateway, gallery, self._changed)

    def _check_room(self, job: Job) -> None:
        waiting = [one for one in self._jobs.values() if not one.over]
        if self._closing or self._gateway.pool.closing:
            raise Busy("the server is stopping", retry_after=5)
        if len(waiting) >= MOST_WAITING:
            raise Busy(
                f"{MOST_WAITING} drawings are waiting; try again when some are finished", retry_after=30
            )
        if sum(one.bytes for one in waiting) + job.bytes > MOST_BYTES:
            raise Busy("the input pictures of the drawings that wait are too large together", retry_after=30)

    def _changed(self, job: Job) -> None:
        if job.over:
            self._forget()
        for watcher in self._watchers:
            if watcher.owner == job.owner:
                watcher.changed[job.state.id] = job
                watcher.wake.set()

    def _forget(self) -> None:
        over = [id for id, job in self._jobs.items() if job.over]
        for id in over[: max(0, len(over) - REMEMBERED)]:
            del self._jobs[id]
