"""The GPU thread: it loads the model, admits jobs, steps them, and hands their events back to the event loop.

It knows neither HTTP nor MLX: a Worker does the work.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from enum import Enum
from typing import Any

from msgspec import Struct

from models.waiting_queue import WaitingQueue
from runner.engine.jobs import Job, JobEvent, Worker
from runner.errors import Busy, DiptychError, RunnerFailed
from runner.panics import is_failure
from runner.protocol.text import Failed

log = logging.getLogger("diptych.engine")

# Unread events of a client; one that has more is taken for gone.
MAILBOX = 4_096
# Failed steps in a row after which the worker is considered broken.
MOST_FAILURES = 3


END = object()


class State(Enum):
    LOADING = "loading"
    READY = "ok"
    FAILED = "error"
    CLOSED = "closed"


Loader = Callable[[Callable[[float], None]], Worker]


class Engine:
    """Started on the event loop; `submit` queues jobs for the GPU thread."""

    def __init__(self, load: Loader, queue: int = 512, on_death: Callable[[], None] = lambda: None) -> None:
        self._load = load
        self._queue = queue
        self._on_death = on_death
        self._wake = threading.Condition()
        self._waiting: WaitingQueue[Job] = WaitingQueue(lambda job: job.priority)
        self._active: dict[Job, None] = {}
        self._closing = False
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="gpu", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._jobs: dict[Job, None] = {}
        self.worker: Worker | None = None
        self.state = State.LOADING
        self.progress = 0.0
        self.error = ""
        self.closed: asyncio.Event
        self.idle: asyncio.Event  # set while no job is in flight

    # -- on the event loop

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.closed = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self._thread.start()

    @property
    def queued(self) -> int:
        return len(self._waiting)

    @property
    def active(self) -> int:
        return len(self._active)

    @property
    def jobs(self) -> int:
        return len(self._jobs)

    def in_flight(self) -> list[Job]:
        return list(self._jobs)

    def require_ready(self) -> Worker:
        """The worker, or an error with the reason why there is none."""
        if self.state is State.LOADING:
            raise Busy(f"the model is still loading ({self.progress:.0%})", retry_after=2)
        if self.state is not State.READY or self.worker is None:
            raise RunnerFailed(self.error or "the runner has stopped")
        return self.worker

    def submit(self, id: str, request: Any, priority: int = 0) -> Job:
        """Queue a job; Busy when the queue is full. Lower priorities begin earlier."""
        self.require_ready()
        if self._closing:
            raise Busy("the server is stopping", retry_after=5)
        if len(self._waiting) >= self._queue:
            raise Busy(
                f"the queue is full ({self._queue} requests are waiting)",
                retry_after=1 + len(self._waiting) // 64,
            )
        job = Job(id, request, priority)
        self._jobs[job] = None
        self.idle.clear()
        with self._wake:
            self._waiting.add(job)
            self._wake.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Stop a job at its next step, or take it out of the queue; a reader gets a last event."""
        job.cancelled = True
        job.status = 499
        job.put(Failed("the request was cancelled"), last=True)
        self.forget(job)
        with self._wake:
            if job in self._waiting:
                self._waiting.remove(job)
            self._wake.notify()

    def cancel_id(self, id: str) -> bool:
        """Stop every job of this request id; whether there was one."""
        jobs = [job for job in self._jobs if job.id == id]
        for job in jobs:
            self.cancel(job)
        return bool(jobs)

    def cancel_all(self) -> None:
        for job in list(self._jobs):
            self.cancel(job)

    def forget(self, job: Job) -> None:
        self._jobs.pop(job, None)
        if not self._jobs:
            self.idle.set()

    def refuse_work(self) -> None:
        """Accept no new jobs; those in flight continue."""
        self._closing = True

    def fail(self, why: str) -> None:
        """Give up, whatever the GPU thread is doing."""
        if self.state in (State.LOADING, State.READY):
            self._die(why)

    async def close(self) -> None:
        """End the GPU thread after its current step."""
        self.refuse_work()
        self.cancel_all()
        with self._wake:
            self.state = State.CLOSED if self.state is State.READY else self.state
            self._wake.notify()
        # Loading is not interrupted: the thread is a daemon and ends with the process.
        # A failed thread is given little time: it may hang in what failed.
        patience = 10 if self.state is State.CLOSED else 1
        if self._thread.is_alive():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.closed.wait(), patience)

    @property
    def working(self) -> bool:
        """Whether the GPU thread still runs."""
        return self._thread.is_alive() and not self.closed.is_set()

    def _deliver(self, events: list[JobEvent]) -> None:
        for event in events:
            job = event.job
            if isinstance(event.event, Future):
                job.late.append(event)
                event.event.add_done_callback(lambda _, job=job: self._call(self._flush, job))  # type: ignore[misc]
            elif job.late:
                job.late.append(event)
            else:
                self._put(job, event.event, event.last)

    def _flush(self, job: Job) -> None:
        """Deliver the events that waited for a completed future, up to the next that is not complete."""
        while job.late:
            event, last = job.late[0].event, job.late[0].last
            if isinstance(event, Future):
                if not event.done():
                    return
                event, last = _result(event, last)
            job.late.popleft()
            self._put(job, event, last)

    def _put(self, job: Job, event: Struct, last: bool) -> None:
        job.put(event, last)
        if last:
            self.forget(job)
        elif job.unread > MAILBOX:
            self.cancel(job)

    # -- on the GPU thread

    def _run(self) -> None:
        try:
            self._load_worker()
            if self.worker is not None:
                self._serve(self.worker)
        except BaseException as error:
            log.exception("the GPU thread died")
            if self.state is not State.FAILED:
                self._die(
                    _message(error) if isinstance(error, DiptychError) else f"the GPU thread died: {error}"
                )
        finally:
            if self.worker is not None:
                self.worker.close()
            self._call(self.closed.set)

    def _load_worker(self) -> None:
        began = time.perf_counter()
        try:
            self.worker = self._load(self._report)
        except DiptychError as error:
            self._die(error.message)
        except Exception as error:
            log.debug("loading failed", exc_info=True)
            self._die(f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error))
        else:
            self.progress, self.state = 1.0, State.READY
            log.info("ready after %.2f s", time.perf_counter() - began)

    def _report(self, progress: float) -> None:
        self.progress = max(self.progress, min(progress, 1.0))

    def _die(self, why: str) -> None:
        self.error, self.state = why.strip() or "unknown error", State.FAILED
        with self._wake:
            jobs = [*self._active, *self._waiting]
            self._active.clear()
            self._waiting.clear()
        self._send([JobEvent(job, Failed(self.error), last=True) for job in jobs])
        self._call(self._on_death)

    def _serve(self, worker: Worker) -> None:
        while self._work_in_background(worker):
            events: list[JobEvent] = []
            self._sweep(worker)
            self._admit(worker, events)
            if worker.busy:
                self._step(worker, events)
            self._send(events)

    def _work_in_background(self, worker: Worker) -> bool:
        """Until there is a job: the worker's other work, then nothing. False when the engine ends."""
        if not self._wanted():
            with contextlib.closing(_pieces(worker)) as pieces:
                while not self._wanted() and next(pieces, END) is not END:
                    continue
        with self._wake:
            while not self._wanted():
                self._wake.wait()
        return self.state is State.READY

    def _wanted(self) -> bool:
        return bool(self._waiting or self._active or self.state is not State.READY)

    def _sweep(self, worker: Worker) -> None:
        """Drop cancelled jobs. They count as active until they have released what they held."""
        for job in [job for job in self._active if job.cancelled]:
            worker.drop(job)
            del self._active[job]

    def _admit(self, worker: Worker, events: list[JobEvent]) -> None:
        while worker.room > 0 and (job := self._next()) is not None:
            self._active[job] = None
            try:
                worker.admit(job)
            except BaseException as error:
                if not is_failure(error):
                    raise
                log.debug("a job could not begin", exc_info=True)
                del self._active[job]
                job.status = getattr(error, "status", 500)
                events.append(JobEvent(job, Failed(_message(error)), last=True))

    def _next(self) -> Job | None:
        with self._wake:
            return self._waiting.pop() if self._waiting else None

    def _step(self, worker: Worker, events: list[JobEvent]) -> None:
        try:
            for event in worker.step():
                if event.last:
                    self._active.pop(event.job, None)
                events.append(event)
            self._failures = 0
        except BaseException as error:
            if not is_failure(error):
                raise
            log.exception("a step failed")
            self._failures += 1
            lost = list(worker.recover())
            for job in lost:
                self._active.pop(job, None)
                events.append(JobEvent(job, Failed(_message(error)), last=True))
            if self._failures >= MOST_FAILURES:
                self._send(events)
                events.clear()
                raise

    def _send(self, events: list[JobEvent]) -> None:
        """One call to the event loop for each step, not for each token."""
        if events:
            self._call(self._deliver, list(events))

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            log.debug("the event loop has closed before %s", function)


def _pieces(worker: Worker) -> Generator[None, None, None]:
    yield from worker.background()


def _message(error: BaseException) -> str:
    return error.message if isinstance(error, DiptychError) else f"{type(error).__name__}: {error}"


def _result(future: Future[Struct], last: bool) -> tuple[Struct, bool]:
    """The event of a completed future, and whether it is the last."""
    if future.cancelled():
        return Failed("the server is stopping"), True
    error = future.exception()
    if error is None:
        return future.result(), last
    log.error("work after a step failed", exc_info=error)
    return Failed(_message(error)), True
