"""The GPU thread with a worker that counts: admit, step, emit, cancel, fail, recover, die."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from msgspec import Struct

from runner.engine.engine import Engine, State
from runner.engine.jobs import Job, JobEvent
from runner.errors import BadRequest, Busy, RunnerFailed
from runner.protocol.text import Failed
from tests.waiting import PATIENCE


class Number(Struct):
    value: int


class Counting:
    """Each job asks for so many numbers; a string is a job that cannot begin."""

    def __init__(self, room: int = 2) -> None:
        self.size = room
        self.left: dict[Job, int] = {}
        self.dropped: list[str] = []
        self.fail_next = 0
        self.threads: set[int] = set()
        self.closed = False
        self.pieces = 0  # of work in the background
        self.paused: list[int] = []  # how many were left whenever that ended
        self.gate = threading.Event()
        self.gate.set()

    @property
    def busy(self) -> bool:
        return bool(self.left)

    @property
    def room(self) -> int:
        return self.size - len(self.left)

    def admit(self, job: Job) -> None:
        if isinstance(job.request, str):
            raise BadRequest(job.request)
        self.left[job] = job.request

    def step(self) -> Iterable[JobEvent]:
        self.threads.add(threading.get_ident())
        self.gate.wait(PATIENCE)
        if self.fail_next:
            self.fail_next -= 1
            raise MemoryError("out of memory")
        for job in list(self.left):
            self.left[job] -= 1
            last = self.left[job] == 0
            if last:
                del self.left[job]
            yield JobEvent(job, Number(job.request), last)

    def background(self) -> Iterator[None]:
        try:
            while self.pieces > 0:
                self.gate.wait(PATIENCE)
                self.pieces -= 1
                yield
        finally:
            self.paused.append(self.pieces)

    def drop(self, job: Job) -> None:
        self.dropped.append(job.id)
        self.left.pop(job, None)

    def recover(self) -> list[Job]:
        lost = list(self.left)
        self.left.clear()
        return lost

    def close(self) -> None:
        self.closed = True

    def stats(self) -> dict[str, Any]:
        return {}


async def started(worker: Counting, **options: Any) -> Engine:
    engine = Engine(lambda progress: worker, **options)
    engine.start()
    await until(lambda: engine.state is not State.LOADING)
    return engine


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


async def events(job: Job) -> list[Struct]:
    return [event async for batch in job.batches() for event in batch]


def run(test: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def test_jobs_share_the_thread_and_each_gets_its_own_events() -> None:
    async def test() -> None:
        worker = Counting(room=3)
        engine = await started(worker)
        jobs = [engine.submit(str(n), n) for n in (1, 2, 3, 4, 5)]
        streams = await asyncio.gather(*map(events, jobs))
        assert [[e.value for e in one] for one in streams] == [[n] * n for n in (1, 2, 3, 4, 5)]
        assert len(worker.threads) == 1
        assert threading.get_ident() not in worker.threads
        assert engine.jobs == engine.active == engine.queued == 0
        await engine.close()
        assert worker.closed

    run(test)


def test_a_full_queue_is_busy_and_says_when_to_come_back() -> None:
    async def test() -> None:
        worker = Counting(room=1)
        worker.gate.clear()
        engine = await started(worker, queue=2)
        first = engine.submit("a", 1)
        await until(lambda: engine.queued == 0)
        rest = [engine.submit(str(i), 1) for i in range(2)]
        with pytest.raises(Busy, match=r"queue is full \(2 requests") as refused:
            engine.submit("c", 1)
        assert refused.value.retry_after >= 1
        worker.gate.set()
        await asyncio.gather(*map(events, [first, *rest]))
        await engine.close()

    run(test)


def test_whoever_leaves_the_queue_frees_a_place_in_it_while_others_are_still_written() -> None:
    async def test() -> None:
        worker = Counting(room=1)
        worker.gate.clear()
        engine = await started(worker, queue=2)
        running = engine.submit("running", 1)
        await until(lambda: engine.queued == 0)
        leaving, staying = engine.submit("leaving", 1), engine.submit("staying", 1)
        engine.cancel(leaving)
        assert engine.queued == 1
        late = engine.submit("late", 1)
        worker.gate.set()
        assert [e.value for job in (running, staying, late) for e in await events(job)] == [1, 1, 1]
        await engine.close()

    run(test)


def test_what_waits_begins_by_priority_and_then_by_arrival() -> None:
    async def test() -> None:
        worker = Counting(room=1)
        worker.gate.clear()
        engine = await started(worker)
        begun: list[str] = []
        admit = worker.admit

        def watch(job: Job) -> None:
            begun.append(job.id)
            admit(job)

        worker.admit = watch  # type: ignore[method-assign]
        first = engine.submit("first", 1)
        await until(lambda: begun == ["first"])
        jobs = [
            engine.submit(name, 1, priority) for name, priority in [("a", 5), ("b", 0), ("c", -1), ("d", 0)]
        ]
        worker.gate.set()
        for job in [first, *jobs]:
            await events(job)
        assert begun == ["first", "c", "b", "d", "a"]
        await engine.close()

    run(test)


def test_cancelling_stops_a_job_wherever_it_is() -> None:
    async def test() -> None:
        worker = Counting(room=1)
        engine = await started(worker)
        running, waiting = engine.submit("running", 10**9), engine.submit("waiting", 3)
        await until(lambda: engine.active == 1)
        assert engine.cancel_id("waiting")
        assert engine.cancel_id("running")
        assert not engine.cancel_id("nobody")
        assert isinstance((await events(running))[-1], Failed)
        assert [type(e) for e in await events(waiting)] == [Failed]
        await until(lambda: engine.active == 0)
        assert worker.dropped == ["running"], "the other one had never begun"
        assert [e.value for e in await events(engine.submit("next", 2))] == [2, 2]
        await engine.close()

    run(test)


def test_a_job_that_cannot_begin_ends_alone_with_its_status() -> None:
    async def test() -> None:
        engine = await started(Counting())
        bad, good = engine.submit("bad", "no such thing"), engine.submit("good", 2)
        assert await events(bad) == [Failed("no such thing")]
        assert bad.status == 400
        assert len(await events(good)) == 2
        await engine.close()

    run(test)


def test_after_a_failed_step_its_jobs_end_and_the_next_ones_work() -> None:
    async def test() -> None:
        worker = Counting()
        worker.gate.clear()
        engine = await started(worker)
        worker.fail_next = 1
        job = engine.submit("unlucky", 5)
        worker.gate.set()
        assert await events(job) == [Failed("MemoryError: out of memory")]
        assert len(await events(engine.submit("next", 3))) == 3
        assert engine.state is State.READY
        await engine.close()

    run(test)


def test_a_worker_that_only_fails_takes_the_engine_down_and_it_says_so() -> None:
    async def test() -> None:
        worker, died = Counting(), asyncio.Event()
        worker.fail_next = 10
        engine = await started(worker, on_death=died.set)
        for number in range(3):
            await events(engine.submit(str(number), 2))
        await died.wait()
        assert engine.state is State.FAILED
        assert "out of memory" in engine.error
        with pytest.raises(RunnerFailed, match="out of memory"):
            engine.submit("late", 1)
        await engine.close()

    run(test)


def test_a_model_that_cannot_be_loaded_is_reported() -> None:
    async def test() -> None:
        def load(progress: Callable[[float], None]) -> Counting:
            progress(0.3)
            raise BadRequest("the weights are torn")

        died = asyncio.Event()
        engine = Engine(load, on_death=died.set)
        engine.start()
        await died.wait()
        assert engine.state is State.FAILED
        assert engine.error == "the weights are torn"
        assert engine.progress == 0.3
        await engine.close()

    run(test)


def test_while_loading_requests_are_asked_to_come_back() -> None:
    async def test() -> None:
        go = threading.Event()

        def load(progress: Callable[[float], None]) -> Counting:
            progress(0.42)
            go.wait(PATIENCE)
            return Counting()

        engine = Engine(load)
        engine.start()
        await until(lambda: engine.progress > 0)
        with pytest.raises(Busy, match=r"loading \(42%\)"):
            engine.submit("early", 1)
        go.set()
        await until(lambda: engine.state is State.READY)
        await engine.close()

    run(test)


def test_a_client_that_never_reads_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.engine.engine.MAILBOX", 50)

    async def test() -> None:
        worker = Counting()
        engine = await started(worker)
        engine.submit("deaf", 10**9)
        await until(lambda: worker.dropped == ["deaf"])
        await engine.close()

    run(test)


def test_closing_ends_jobs_in_flight() -> None:
    async def test() -> None:
        worker = Counting()
        engine = await started(worker)
        job = engine.submit("long", 10**9)
        await until(lambda: engine.active == 1)
        await engine.close()
        assert isinstance((await events(job))[-1], Failed)
        with pytest.raises((Busy, RunnerFailed)):
            engine.submit("late", 1)

    run(test)


class Promising(Counting):
    """Its odd events come later, from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.promises: list[Future[Struct]] = []

    def step(self) -> Iterable[JobEvent]:
        for emitted in super().step():
            left = self.left.get(emitted.job, 0)
            if left % 2:
                self.promises.append(Future())
                yield JobEvent(emitted.job, self.promises[-1], emitted.last)
            else:
                yield JobEvent(emitted.job, Number(left), emitted.last)


def test_events_that_come_late_keep_their_place() -> None:
    async def test() -> None:
        worker = Promising()
        engine = await started(worker)
        job = engine.submit("a", 5)  # 4, then a promise of 3, then 2, then a promise of 1, then 0
        await until(lambda: len(worker.promises) == 2 and engine.active == 0)
        assert job.unread <= 1
        assert not engine.idle.is_set(), "its last event has not come"
        worker.promises[1].set_result(Number(1))
        await asyncio.sleep(0.02)
        assert job.unread == 1, "what is ready early waits for what is before it"
        worker.promises[0].set_result(Number(3))
        assert [e.value for e in await events(job)] == [4, 3, 2, 1, 0]
        assert engine.idle.is_set()
        await engine.close()

    run(test)


def test_a_late_event_that_fails_ends_its_job() -> None:
    async def test() -> None:
        worker = Promising()
        engine = await started(worker)
        failing, cancelled = engine.submit("a", 5), engine.submit("b", 2)
        await until(lambda: len(worker.promises) == 3 and engine.active == 0)
        for promise in worker.promises:
            promise.set_exception(OSError("disk full"))
        assert await events(failing) == [Number(4), Failed("OSError: disk full")]
        assert await events(cancelled) == [Failed("OSError: disk full")]
        assert engine.jobs == 0
        await engine.close()

    run(test)


def test_a_job_can_be_cancelled_while_its_events_are_late() -> None:
    async def test() -> None:
        worker = Promising()
        engine = await started(worker)
        job = engine.submit("a", 2)
        await until(lambda: len(worker.promises) == 1 and engine.active == 0)
        assert engine.cancel_id("a")
        worker.promises[0].set_result(Number(1))
        assert await events(job) == [Failed("the request was cancelled")]
        assert engine.jobs == 0
        await engine.close()

    run(test)


def test_work_in_the_background_stops_for_a_job_and_goes_on_after_it() -> None:
    async def test() -> None:
        worker = Counting()
        worker.pieces = 10**9
        engine = await started(worker)
        await until(lambda: worker.pieces < 10**9)
        found = await events(engine.submit("one", 3))
        assert [event.value for event in found] == [3] * 3  # type: ignore[attr-defined]
        assert worker.paused
        left = worker.paused[-1]
        await until(lambda: worker.pieces < left)
        await engine.close()
        assert worker.closed

    run(test)


def test_a_worker_without_other_work_waits_for_jobs() -> None:
    async def test() -> None:
        worker = Counting()
        engine = await started(worker)
        await until(lambda: bool(worker.paused))
        assert [len(await events(engine.submit(str(n), n))) for n in (1, 2)] == [1, 2]
        await engine.close()

    run(test)
