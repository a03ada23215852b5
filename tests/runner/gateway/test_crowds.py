"""Many clients, many rounds, and nobody at all: what the gateway holds and how long anyone waits."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import httpx2
import pytest

from tests.runner.gateway.live import Gateway, gone
from tests.runner.live import events
from tests.runner.pretend import pretend_model
from tests.toys import toy_text


def test_an_idle_gateway_is_small_and_rests(tmp_path: Path) -> None:
    with Gateway({"a": pretend_model(tmp_path / "a")}) as gateway:
        gateway.events("a")
        gateway.http.post("/models/stop", json={"model": "a"})
        assert gateway.memory() < 80_000_000
        if sys.platform == "linux":
            before = used(gateway)
            time.sleep(2)
            assert used(gateway) - before <= 0.02


def used(gateway: Gateway) -> float:
    """Seconds of processor."""
    spent = Path(f"/proc/{gateway.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(spent[11]) + int(spent[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
def test_ten_rounds_of_loading_and_ending_leave_what_was_there(tmp_path: Path) -> None:
    models = {name: pretend_model(tmp_path / name) for name in "ab"}

    def files(gateway: Gateway) -> int:
        return len(os.listdir(f"/proc/{gateway.process.pid}/fd")) if sys.platform == "linux" else 0

    with Gateway(models, max_loaded=1) as gateway:

        def rounds(count: int) -> tuple[int, int]:
            for _ in range(count):
                for name in models:
                    gateway.events(name)
            gateway.http.post("/models/stop", json={"model": "b"})
            return gateway.memory(), files(gateway)

        before = rounds(3)
        after = rounds(10)
        assert after[0] - before[0] < 2_000_000
        assert after[1] == before[1]
        assert gateway.metric("diptych_loads_total") == 26
        assert gateway.metric("diptych_crashes_total") == 0


@pytest.mark.slow
def test_two_hundred_clients_over_three_models_with_memory_for_two() -> None:
    """Each is answered or refused cleanly, and none waits for longer than the others together were served."""
    models = {name: toy_text(family) for name, family in (("a", "qwen3"), ("b", "llama"), ("c", "gemma3"))}
    latest: dict[str, float] = {}

    async def ask(client: httpx2.AsyncClient, number: int) -> int:
        name = "abc"[number % 3]
        body = {"model": name, "prompt": f"Number {number}", "options": {"num_predict": 8}}
        answer = await client.post("/completion", json=body)
        if answer.status_code == 200:
            actual = events(answer)
            assert actual[-1]["done"] is True
            assert "error" not in actual[-1]
            assert len(actual) == 9
        else:
            assert answer.status_code == 503
            assert answer.json()["error"]
            assert int(answer.headers["retry-after"]) > 0
        latest[name] = time.monotonic()
        return answer.status_code

    async def main(gateway: Gateway) -> list[int]:
        async with gateway.client() as client:
            return await asyncio.gather(*(ask(client, number) for number in range(200)))

    with Gateway(models, pretend=False, memory=600_000_000, queue=150) as gateway:
        actual = asyncio.run(main(gateway))
        assert len(gateway.models()) == 2
        assert actual.count(200) + actual.count(503) == 200
        assert actual.count(200) >= 150
        assert latest.keys() == {"a", "b", "c"}
        # Everyone of a model is served in one go: nothing is loaded twice.
        assert gateway.metric("diptych_loads_total") == 3
        assert gateway.metric("diptych_crashes_total") == 0


@pytest.mark.slow
def test_whatever_is_killed_and_stopped_every_request_is_answered_and_nothing_is_left(tmp_path: Path) -> None:
    models = {name: pretend_model(tmp_path / name, events=5, pause=0.01, load=0.1) for name in "abcd"}
    pids: set[int] = set()

    async def ask(client: httpx2.AsyncClient, chance: random.Random) -> None:
        model = chance.choice("abcd")
        if chance.random() < 0.2:
            path = chance.choice(["/models/stop", "/models/load"])
            assert (await client.post(path, json={"model": model})).status_code in (200, 500, 503)
            return
        body = {"model": model, "prompt": "x", "keep_alive": chance.choice([0, 1, -1])}
        answer = await client.post(
            "/completion", json=body | {"progress": chance.random() < 0.3, "events": chance.choice([1, 30])}
        )
        last = json.loads(answer.text.splitlines()[-1])
        assert answer.status_code in (200, 500, 503), answer.text
        assert last["done"] is True if answer.status_code == 200 else last["error"]

    async def asking(client: httpx2.AsyncClient, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(10):
            try:
                await asyncio.wait_for(ask(client, chance), 0.2 if chance.random() < 0.2 else 60)
            except TimeoutError:
                continue  # a client that leaves

    async def killing(client: httpx2.AsyncClient) -> None:
        chance = random.Random(0)
        while True:
            await asyncio.sleep(chance.random())
            for model in (await client.get("/models")).json()["models"]:
                pids.add(model["pid"] or 0)
                if model["pid"] and chance.random() < 0.3:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(model["pid"], chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP]))

    async def main(gateway: Gateway) -> None:
        async with gateway.client() as client:
            killer = asyncio.create_task(killing(client))
            await asyncio.gather(*(asking(client, seed) for seed in range(30)))
            killer.cancel()

    with Gateway(models, max_loaded=2, unresponsive=0.5, health_timeout=0.5, load_timeout=5) as gateway:
        asyncio.run(main(gateway))
        gateway.wait_until(lambda: gateway.http.get("/models").json()["queue"] == 0)
        assert "Traceback" not in gateway.log
        assert gateway.stop() == 0
        assert all(gone(pid) for pid in pids if pid)


@pytest.mark.slow
def test_a_thousand_requests_in_any_order_and_nobody_starves(tmp_path: Path) -> None:
    """Two hundred clients ask one of three models again and again, two of which fit at a time."""
    models = {name: pretend_model(tmp_path / name, events=5, pause=0.02, load=0.3) for name in "abc"}
    waits: list[float] = []

    async def ask(client: httpx2.AsyncClient, number: int) -> None:
        choose = random.Random(number)
        for _ in range(5):
            began = time.monotonic()
            answer = await client.post("/completion", json={"model": choose.choice("abc"), "prompt": "x"})
            assert events(answer)[-1]["done"] is True
            waits.append(time.monotonic() - began)

    async def main(gateway: Gateway) -> float:
        began = time.monotonic()
        async with gateway.client() as client:
            await asyncio.gather(*(ask(client, number) for number in range(200)))
        return time.monotonic() - began

    with Gateway(models, max_loaded=2) as gateway:
        took = asyncio.run(main(gateway))
        assert len(waits) == 1000
        # Who had starved would have waited until the others were done.
        assert max(waits) < took * 2 / 3
        assert gateway.metric("diptych_crashes_total") == 0
        assert gateway.metric("diptych_loads_total") < 60
        assert gateway.http.get("/models").json()["queue"] == 0
