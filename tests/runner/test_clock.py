"""Time in which we could have heard something."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from runner.clock import AwakeClock, awake_timeout
from runner.http.server import loop_factory
from tests.waiting import PATIENCE


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(main(), PATIENCE)

    for factory in (loop_factory(), None):  # timers come before sockets in one, behind them in the other
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(bounded())


def block(seconds: float) -> None:
    time.sleep(seconds)


def test_a_clock_counts_what_it_is_free_for_and_no_pause() -> None:
    async def main() -> None:
        clock = AwakeClock()
        began, really = clock.time(), time.monotonic()
        await asyncio.sleep(0.6)
        assert 0 < clock.time() - began <= time.monotonic() - really
        before = clock.time()
        block(2)
        assert clock.time() - before < 0.5  # even before the loop has run again
        await asyncio.sleep(0.3)
        assert clock.time() - before < 1.5
        clock.close()

    run(main)


def test_a_timeout_of_a_silent_peer_ends() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with awake_timeout(0.3):
                await asyncio.Event().wait()
        async with awake_timeout(None):
            await asyncio.sleep(0.1)

    run(main)


def test_a_timeout_can_be_restarted() -> None:
    async def main() -> None:
        async with awake_timeout(0.6) as limit:
            for _ in range(4):
                await asyncio.sleep(0.3)
                limit.restart()

    run(main)


def test_what_arrived_during_a_pause_is_read_before_anything_is_given_up() -> None:
    async def main() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(b"yes\n")
            await writer.drain()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        asyncio.get_running_loop().call_later(0.1, block, 3)
        async with awake_timeout(1):
            await asyncio.sleep(0.05)
            writer.write(b"are you there?\n")
            assert await reader.readline() == b"yes\n"
            block(3)
            await asyncio.sleep(0.1)
        writer.close()
        server.close()

    run(main)
