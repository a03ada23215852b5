"""Calls that report, driven as generators."""

import threading
from collections.abc import Callable

import pytest

from pipelines.fallback.stepwise import Stopped, stepwise

Report = Callable[[int], None]


def test_reports_come_one_by_one_and_the_result_is_returned() -> None:
    def call(report: Report) -> str:
        for number in range(3):
            report(number)
        return "made"

    walk = stepwise(call)
    assert [next(walk), next(walk), next(walk)] == [0, 1, 2]
    with pytest.raises(StopIteration) as ended:
        next(walk)
    assert ended.value.value == "made"


def test_the_call_waits_at_its_report_until_the_next_is_asked_for() -> None:
    went: list[int] = []

    def call(report: Report) -> None:
        report(1)
        went.append(1)
        report(2)

    walk = stepwise(call)
    assert next(walk) == 1
    assert went == []
    assert next(walk) == 2
    assert went == [1]
    walk.close()


def test_closing_ends_the_call_where_it_reports_and_its_thread() -> None:
    ended: list[str] = []

    def call(report: Report) -> None:
        try:
            report(1)
        except Exception:
            ended.append("a handler of the call's own took it for a failure")
        finally:
            ended.append(threading.current_thread().name)

    walk = stepwise(call)
    next(walk)
    walk.close()
    assert ended == ["torch"]
    assert "torch" not in {thread.name for thread in threading.enumerate()}


def test_what_the_call_raises_is_raised() -> None:
    def call(report: Report) -> None:
        report(1)
        raise OverflowError("too much")

    walk = stepwise(call)
    next(walk)
    with pytest.raises(OverflowError, match="too much"):
        next(walk)


def test_stopping_is_no_exception() -> None:
    assert not issubclass(Stopped, Exception)
