"""Work that goes on for ever is stopped, and all other work returns what it returns."""

import threading
import time

import pytest

from models.tokenizers.deadline import OutOfTime, within
from tests.waiting import PATIENCE


def test_work_returns_and_raises_as_if_it_were_called() -> None:
    assert within(PATIENCE, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(PATIENCE, lambda: 1 // 0)
    with pytest.raises(TimeoutError, match="of its own"):
        within(PATIENCE, lambda: (_ for _ in ()).throw(TimeoutError("of its own")))


def test_an_endless_loop_is_stopped_even_where_it_handles_errors() -> None:
    turns = 0

    def loop() -> None:
        nonlocal turns
        while True:
            try:
                turns += 1
            except Exception:
                turns = 0

    with pytest.raises(OutOfTime):
        within(0.05, loop)
    assert not [thread for thread in threading.enumerate() if thread.name == "deadline"]
    assert turns > 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_is_lost_in_a_finaliser_is_sent_again() -> None:
    class Slow:
        def __del__(self) -> None:
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                pass

    def loop() -> None:
        for _ in range(2):
            Slow()
        while True:
            pass

    with pytest.raises(OutOfTime):
        within(0.05, loop)
    assert not [thread for thread in threading.enumerate() if thread.name == "deadline"]
