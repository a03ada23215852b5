"""A warm-up is a favour: it costs no load."""

import logging

import pytest

from runner.engine.text.worker import TextSettings, load_text_worker
from runner.engine.warmup import warm_up
from runner.sources import ModelMode, find
from tests.toys import toy_text


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


def test_a_model_that_writes_warms_up_with_a_few_tokens_and_forgets_them() -> None:
    local = find(str(toy_text())).fetch(ModelMode.TEXT)
    worker = load_text_worker(local, TextSettings(), lambda done: None)
    worker.warm()
    assert not worker.busy
    assert worker.stats()["cache_entries"] == 0
