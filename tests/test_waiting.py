"""A wait ends with what it waits for, and says what it saw when that does not come."""

import asyncio
import itertools

import pytest

from tests.waiting import until, wait_until


def test_what_is_waited_for_is_given_back() -> None:
    numbers = itertools.count()
    assert wait_until(lambda: next(numbers) == 3 and "there") == "there"
    assert asyncio.run(until(lambda: next(numbers) == 6 and "there too")) == "there too"


def test_what_does_not_come_is_explained() -> None:
    with pytest.raises(AssertionError, match=r"waited 0\.1 s: the log of it"):
        wait_until(lambda: False, lambda: "the log of it", seconds=0.1)
