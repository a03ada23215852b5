"""Waiting for a loop on another thread, and Ctrl-C meanwhile."""

import asyncio
import os
import signal
import threading

import pytest

from runner.cli.chat.background import Background
from tests.waiting import PATIENCE


def test_results_and_errors_come_back() -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    async def fail() -> None:
        raise ValueError("no")

    with Background() as background:
        assert background.run(double(21)) == 42
        with pytest.raises(ValueError, match="no"):
            background.run(fail())


def test_an_interrupt_cancels_what_runs_waits_for_its_end_and_is_raised() -> None:
    ended: list[str] = []

    async def long() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            ended.append("cleaned up")

    with Background() as background:
        with pytest.raises(KeyboardInterrupt):
            background.run(long())
        assert ended == ["cleaned up"]


def test_the_loop_goes_on_between_two_waits() -> None:
    ticks = threading.Event()

    async def begin() -> None:
        asyncio.get_running_loop().call_later(0.01, ticks.set)

    with Background() as background:
        background.run(begin())
        assert ticks.wait(PATIENCE)
