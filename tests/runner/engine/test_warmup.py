"""A warm-up is a favour: it costs no load."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any, cast

import pytest

from runner.engine.engine import Engine
from runner.engine.text.worker import TextSettings, TextWorker, load_text_worker
from runner.engine.warmup import warm_up, warming_up
from runner.protocol.text import Options, TextRequest
from runner.sources import ModelMode, find
from tests.toys import toy_text
from tests.waiting import until


def test_it_is_told_how_long_it_took(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    warm_up(lambda: None, clear=lambda: pytest.fail("there is nothing to give back"))
    assert "warmed up in" in caplog.text


def test_what_goes_wrong_is_a_warning_and_gives_its_memory_back(caplog: pytest.LogCaptureFixture) -> None:
    cleared = []

    def work() -> None:
        raise RuntimeError("[malloc] out of memory")

    warm_up(work, clear=lambda: cleared.append(True))
    assert cleared
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "out of memory" in record.message


def test_steps_that_fail_are_a_warning_too(caplog: pytest.LogCaptureFixture) -> None:
    cleared = []

    def steps() -> Iterator[None]:
        yield
        raise RuntimeError("[malloc] out of memory")

    assert len(list(warming_up(steps(), clear=lambda: cleared.append(True)))) == 1
    assert cleared
    assert "out of memory" in caplog.text


def test_steps_are_closed_where_they_are(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    closed = []

    def steps() -> Iterator[None]:
        try:
            yield
            yield
        finally:
            closed.append(True)

    work = warming_up(steps(), clear=lambda: pytest.fail("nothing has failed"))
    next(work)
    work.close()
    assert closed
    assert "warmed up" not in caplog.text


def toy_worker() -> TextWorker:
    local = find(str(toy_text())).fetch(ModelMode.TEXT)
    return load_text_worker(local, TextSettings(), lambda done: None)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> TextWorker:
    """Of a toy that warms up as on a card."""
    monkeypatch.setattr("runner.engine.text.worker.on_cuda", lambda: True)
    return toy_worker()


def test_a_model_that_writes_warms_up_with_a_few_tokens_and_forgets_them(worker: TextWorker) -> None:
    assert worker.stats()["warming"]
    for _ in worker.background():
        assert worker.stats()["warming"]
    assert not worker.busy
    assert not worker.stats()["warming"]
    assert worker.stats()["cache_entries"] == 0
    assert not list(worker.background())


def test_a_model_warms_up_on_cards_alone_and_if_it_should() -> None:
    worker = toy_worker()
    assert not worker.stats()["warming"]
    assert not list(worker.background())


def test_a_request_during_the_warm_up_is_answered_as_without(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer() -> tuple[list[Any], bool]:
        engine = Engine(lambda progress: toy_worker())
        engine.start()
        await until(lambda: engine.worker is not None)
        worker = cast(TextWorker, engine.worker)
        request = worker.prompts.generate(
            TextRequest(prompt="Boats and gulls", options=Options(num_predict=8))
        )
        if worker.warming:
            await until(lambda: worker.stats()["decoding"])
        warming = worker.warming
        job = engine.submit("one", request)
        events = [event async for batch in job.batches() for event in batch]
        await until(lambda: not worker.warming)
        await engine.close()
        return events, warming

    plain, warming = asyncio.run(answer())
    assert not warming
    monkeypatch.setattr("runner.engine.text.worker.on_cuda", lambda: True)
    events, warming = asyncio.run(answer())
    assert warming
    assert [event.token for event in events[:-1]] == [event.token for event in plain[:-1]]
    assert (events[-1].eval_count, events[-1].cached) == (8, 0)
