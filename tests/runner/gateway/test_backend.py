"""The pool, the fleet and the native API over a backend that is no process: they need nothing else of one."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runner.errors import Busy, RunnerFailed
from runner.gateway import native
from runner.gateway.app import Api, Gateway
from runner.gateway.backoff import MAX_DEATHS
from runner.gateway.settings import Settings
from runner.inspect.memory import TEXT_ALLOWANCE
from runner.protocol.text import TextRequest
from runner.units import MIB
from tests.runner.gateway.fake_backend import FakeLauncher
from tests.runner.pretend import pretend_model
from tests.waiting import PATIENCE, until

WEIGHTS = 64 * MIB


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)


@asynccontextmanager
async def gateway(folder: Path, launcher: FakeLauncher, **settings: Any) -> AsyncIterator[Gateway]:
    """One that knows the models `a` and `b`, with memory for one of them."""
    aliases = {name: str(pretend_model(folder / name, WEIGHTS)) for name in "ab"}
    memory = settings.pop("memory", WEIGHTS + TEXT_ALLOWANCE + MIB)
    it = Gateway(Settings(aliases=aliases, memory=memory, health_every=0.01, **settings), launcher)
    it.pool.start()
    try:
        async with asyncio.timeout(PATIENCE):
            yield it
    finally:
        await it.pool.close(grace=0)


def test_a_lease_is_granted_once_the_backend_is_ready_and_talks_to_its_endpoint(tmp_path: Path) -> None:
    async def main() -> None:
        launcher, progress = FakeLauncher(held=True), list[float]()
        async with gateway(tmp_path, launcher) as it:
            acquiring = asyncio.create_task(it.pool.acquire("a", on_progress=progress.append))
            await until(lambda: progress)
            assert not acquiring.done()
            [backend] = launcher.backends
            backend.ready.set()
            async with await acquiring as lease:
                assert backend.leases == it.pool.active == 1
                async with aclosing(lease.server.completion(TextRequest("hi"))) as events:
                    assert [event.content async for event in events] == ["hi"]
            assert backend.leases == it.pool.active == 0
            assert progress == [0.5]
        assert backend.calls == ["close"]

    asyncio.run(main())


def test_a_model_is_evicted_for_another_and_launched_anew(tmp_path: Path) -> None:
    async def main() -> None:
        launcher = FakeLauncher()
        async with gateway(tmp_path, launcher) as it:
            for name in "aba":
                (await it.pool.acquire(name)).release()
                assert [loaded.model.name for loaded in it.pool.loaded] == [str(tmp_path / name)]
            first, second, third = launcher.backends
            assert first.calls == second.calls == ["close"]
            assert third.calls == []

    asyncio.run(main())


def test_one_that_keeps_dying_is_not_restarted_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        launcher = FakeLauncher()
        async with gateway(tmp_path, launcher) as it:
            for _ in range(MAX_DEATHS):
                (await it.pool.acquire("a")).release()
                launcher.backends[-1].die("out of luck")
                await until(lambda: not it.pool.loaded)
            with pytest.raises(
                Busy, match=r"keeps crashing; it can be restarted in \d s\. Its last error: out of luck"
            ):
                await it.pool.acquire("a")
        assert len(launcher.backends) == MAX_DEATHS

    asyncio.run(main())


def test_one_that_cannot_start_fails_the_requests_that_wait_for_it(tmp_path: Path) -> None:
    async def main() -> None:
        launcher = FakeLauncher(held=True)
        async with gateway(tmp_path, launcher) as it:
            requests = [asyncio.create_task(it.pool.acquire("a")) for _ in range(3)]
            await until(lambda: launcher.backends and it.pool.queued == 3)
            launcher.backends[0].die("no such card")
            for request in requests:
                with pytest.raises(RunnerFailed, match="no such card"):
                    await request

    asyncio.run(main())


def test_one_that_stops_answering_is_killed(tmp_path: Path) -> None:
    async def main() -> None:
        launcher = FakeLauncher()
        async with gateway(tmp_path, launcher, unresponsive=0.05) as it:
            (await it.pool.acquire("a")).release()
            [backend] = launcher.backends
            backend.healthy = False
            await until(lambda: not it.pool.loaded)
            assert backend.calls[0] == "kill: it did not answer its health check"

    asyncio.run(main())


def test_the_native_api_passes_requests_on_and_shows_what_is_loaded(tmp_path: Path) -> None:
    async def main() -> None:
        launcher = FakeLauncher()
        async with gateway(tmp_path, launcher) as it:
            transport = httpx2.ASGITransport(it.asgi([Api(native.routes)]))
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
                answer = await client.post("/completion", json={"model": "a", "prompt": "x"})
                assert [json.loads(text) for text in answer.text.splitlines()] == [
                    {"content": "fake", "done": True}
                ]
                assert "server" not in answer.headers
                [shown] = (await client.get("/models")).json()["models"]
                assert (shown["state"], shown["context"], shown["active"], shown["pid"]) == (
                    "ready",
                    128,
                    0,
                    None,
                )
                assert "replicas" not in shown
                stopped = await client.post("/models/stop", json={"model": "a"})
                assert stopped.json() == {"status": "stopped"}
            [backend] = launcher.backends
            assert backend.calls == ["POST /completion", "close"]

    asyncio.run(main())


def test_a_request_in_flight_is_cancelled_at_the_backend(tmp_path: Path) -> None:
    async def main() -> None:
        launcher = FakeLauncher()
        async with gateway(tmp_path, launcher) as it, await it.pool.acquire("a"):
            assert await it.pool.cancel("request-7")
            assert launcher.backends[0].calls == ["cancel: request-7"]

    asyncio.run(main())
