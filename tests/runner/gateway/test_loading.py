"""Which models are loaded when: on demand, side by side, as many as fit, for as long as they are wanted."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runner.inspect.memory import TEXT_ALLOWANCE
from runner.units import MIB
from tests.hub_server import HubServer
from tests.runner.gateway.live import Gateway, gone
from tests.runner.live import events
from tests.runner.pretend import pretend_model, tell
from tests.waiting import PATIENCE

WEIGHTS = 100 * MIB
# What one such model is taken to need, and room for two of them.
NEED = WEIGHTS + TEXT_ALLOWANCE
TWO = 2 * NEED + 10 * MIB


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    return {name: pretend_model(tmp_path / name, WEIGHTS, memory=WEIGHTS) for name in "abc"}


@pytest.fixture
def gateway(models: dict[str, Path]) -> Iterator[Gateway]:
    with Gateway(models, memory=TWO) as gateway:
        yield gateway


def test_a_model_is_loaded_when_it_is_asked_for_and_stays(gateway: Gateway) -> None:
    assert gateway.models() == {}
    first, second = gateway.events("a"), gateway.events("a")
    assert first[-1]["done"] is True
    assert first[0]["pid"] == second[0]["pid"]
    shown = gateway.models()["a"]
    assert (shown["mode"], shown["state"], shown["active"], shown["memory"]) == ("text", "ready", 0, NEED)
    assert shown["pid"] == first[0]["pid"]
    assert shown["until"]
    assert gateway.metric("diptych_loads_total") == 1


def test_the_least_recently_used_makes_room(gateway: Gateway) -> None:
    for name in ("a", "b", "a", "c"):
        gateway.events(name)
    assert gateway.models().keys() == {"a", "c"}
    assert gateway.metric("diptych_unloads_total") == 1


def test_a_model_in_use_is_never_evicted(models: dict[str, Path]) -> None:
    with Gateway(models, memory=NEED + MIB) as gateway:
        gateway.events("a")
        with gateway.http.stream(
            "POST", "/completion", json={"model": "a", "prompt": "x", "events": 20, "held": True}
        ) as response:
            seen = response.iter_lines()
            next(seen)
            other: list[Any] = []
            asking = threading.Thread(target=lambda: other.append(gateway.events("b")))
            asking.start()
            gateway.wait_until(lambda: gateway.http.get("/models").json()["queue"] == 1)
            assert gateway.models().keys() == {"a"}
            tell(models["a"], "answer")
            assert len(list(seen)) == 20
        asking.join()
        assert other[0][-1]["done"] is True
        assert gateway.models().keys() == {"b"}


def test_newcomers_wait_behind_one_whom_a_busy_model_keeps_waiting(models: dict[str, Path]) -> None:
    """However many ask for the busy model, the other one's turn comes."""

    async def main(gateway: Gateway) -> None:
        async with gateway.client() as client:

            async def ask(name: str, times: int) -> list[float]:
                took = []
                for _ in range(times):
                    began = time.monotonic()
                    body = {"model": name, "prompt": "x", "events": 5, "pause": 0.02}
                    events(await client.post("/completion", json=body))
                    took.append(time.monotonic() - began)
                return took

            busy = [asyncio.create_task(ask("a", 20)) for _ in range(4)]
            await asyncio.sleep(0.5)
            await ask("b", 1)
            assert not all(task.done() for task in busy), "b came only after all of a"
            await asyncio.gather(*busy)

    with Gateway(models, memory=NEED + MIB) as gateway:
        gateway.events("a")
        asyncio.run(main(gateway))


def test_what_can_never_fit_is_refused_with_both_numbers(models: dict[str, Path]) -> None:
    with Gateway(models, memory=100 * MIB) as gateway:
        refused = gateway.ask("a")
        assert refused.status_code == 507
        assert "needs about 373 MB; models may take 105 MB in all (--memory)" in refused.json()["error"]
        assert "--force" in refused.json()["error"]
        assert gateway.models() == {}


def test_force_overrides_the_estimate(models: dict[str, Path]) -> None:
    with Gateway(models, memory=100 * MIB, force=True) as gateway:
        assert gateway.events("a")[-1]["done"] is True


def test_the_estimate_is_corrected_by_what_the_runner_reports(tmp_path: Path) -> None:
    models = {
        "small": pretend_model(tmp_path / "small", 1000 * MIB, memory=10 * MIB),
        "large": pretend_model(tmp_path / "large", 10 * MIB, memory=1000 * MIB),
    }
    with Gateway(models, memory=1300 * MIB) as gateway:
        gateway.events("small")
        assert gateway.models()["small"]["memory"] == 10 * MIB + TEXT_ALLOWANCE
        gateway.events("large")
        assert gateway.models()["large"]["memory"] == 1000 * MIB + TEXT_ALLOWANCE
        # Both were let in by their estimates; now that it is known better, one has to go for the other.
        gateway.http.post("/models/stop", json={"model": "small"})
        gateway.events("small")
        assert gateway.models().keys() == {"small"}


def test_no_more_models_than_are_allowed(models: dict[str, Path]) -> None:
    with Gateway(models, max_loaded=1) as gateway:
        for name in "abc":
            gateway.events(name)
            assert gateway.models().keys() == {name}


def test_keep_alive_is_counted_from_the_last_request_and_can_be_now_or_never(gateway: Gateway) -> None:
    gateway.events("a", keep_alive="0.5s")
    pid = gateway.models()["a"]["pid"]
    gateway.wait_until(lambda: not gateway.models())
    assert gone(pid)
    gateway.events("a", keep_alive=0)
    gateway.wait_until(lambda: not gateway.models())
    gateway.events("a", keep_alive=-1)
    assert gateway.models()["a"]["until"] is None
    gateway.events("a", keep_alive="1h")
    assert gateway.models()["a"]["until"]


def test_loading_and_stopping_on_request(gateway: Gateway) -> None:
    def post(path: str, **body: Any) -> Any:
        return gateway.http.post(path, json=body).json()

    assert post("/models/load", model="a", keep_alive="10m")["status"] == "loaded"
    assert gateway.models()["a"]["keep_alive"] == 600
    assert post("/models/stop", model="a") == {"status": "stopped"}
    assert post("/models/stop", model="a") == {"status": "not loaded"}
    assert gateway.models() == {}


def test_a_stop_asks_nobody_else(models: dict[str, Path]) -> None:
    names = ["owner/absent", "hf:absent", "absent", "absent:1b", "../a", "a\0b", "x" * 10_000, "/", "\n", "é"]
    with HubServer() as hub, Gateway(models, environment={"HF_ENDPOINT": hub.url}) as gateway:
        gateway.events("a")
        for name in names:
            answer = gateway.http.post("/models/stop", json={"model": name})
            assert answer.json() == {"status": "not loaded"}, name
        assert hub.requests == []
        assert gateway.models().keys() == {"a"}


def test_stopping_a_model_in_use_waits_for_its_requests(gateway: Gateway, models: dict[str, Path]) -> None:
    body = {"model": "a", "prompt": "x", "events": 20, "held": True}
    with gateway.http.stream("POST", "/completion", json=body) as response:
        seen = response.iter_lines()
        next(seen)
        assert gateway.http.post("/models/stop", json={"model": "a"}).json() == {"status": "stopping"}
        tell(models["a"], "answer")
        assert len(list(seen)) == 20
    gateway.wait_until(lambda: not gateway.models())


def test_models_named_at_the_start_are_loaded_and_stay(models: dict[str, Path]) -> None:
    with Gateway({}, models=[str(models["a"])], keep_alive=0.2) as gateway:
        gateway.wait_until(lambda: gateway.models().get("a", {}).get("state") == "ready")
        assert gateway.models()["a"]["keep_alive"] == -1
        assert gateway.events("a")[-1]["done"] is True
        assert gateway.events(str(models["a"]))[-1]["done"] is True


def test_a_client_that_asks_sees_the_loading(tmp_path: Path) -> None:
    models = {"slow": pretend_model(tmp_path / "slow", load=2)}
    with Gateway(models) as gateway:
        stream = gateway.events("slow", progress=True)
        loading = [event for event in stream if event.get("status") == "loading"]
        assert len(loading) >= 3
        progress = [event["progress"] for event in loading]
        assert progress == sorted(progress)
        assert stream[: len(loading)] == loading
        assert stream[-1]["done"] is True
        assert "status" not in gateway.events("slow", progress=True)[0]


def test_a_load_that_fails_after_progress_is_a_last_event(tmp_path: Path) -> None:
    models = {"bad": pretend_model(tmp_path / "bad", load=30, never=True)}
    with Gateway(models, load_timeout=0.5) as gateway:
        assert gateway.ask("bad").status_code == 500
        actual = gateway.ask("bad", progress=True)
        last = actual.json() if actual.status_code != 200 else events(actual)[-1]
        assert "did not become ready" in last["error"]


def test_loaded_models_serve_while_another_loads(tmp_path: Path) -> None:
    models = {"quick": pretend_model(tmp_path / "quick"), "slow": pretend_model(tmp_path / "slow", held=True)}
    with Gateway(models) as gateway:
        gateway.events("quick")
        loading = threading.Thread(target=gateway.events, args=("slow",))
        loading.start()
        gateway.wait_until(lambda: gateway.models().get("slow", {}).get("state") == "loading")
        gateway.events("quick")
        assert gateway.models()["slow"]["state"] == "loading"
        tell(models["slow"], "load")
        loading.join()


def hanging(gateway: Gateway, name: str) -> int:
    """The process of a runner that is stopped in the middle of its load, which somebody waits for."""
    gateway.wait_until(lambda: gateway.models().get(name, {}).get("progress", 0) > 0)
    pid = gateway.models()[name]["pid"]
    os.kill(pid, signal.SIGSTOP)
    return int(pid)


def test_a_load_that_hangs_holds_no_other_up(models: dict[str, Path], tmp_path: Path) -> None:
    hangs = pretend_model(tmp_path / "hangs", WEIGHTS, load=PATIENCE, memory=WEIGHTS)
    with Gateway({**models, "hangs": hangs}, memory=TWO) as gateway:
        waiting = threading.Thread(target=gateway.ask, args=("hangs",))
        waiting.start()
        pid = hanging(gateway, "hangs")
        for name in "abc":
            assert gateway.events(name)[-1]["done"] is True
            assert gateway.models().keys() == {"hangs", name}
        assert gateway.models()["hangs"]["state"] == "loading"
        gateway.http.post("/models/stop", json={"model": "hangs"})
        waiting.join(PATIENCE)
        assert gone(pid)


def test_two_loads_go_on_at_once_and_share_the_memory(models: dict[str, Path], tmp_path: Path) -> None:
    slow = {name: pretend_model(tmp_path / name, WEIGHTS, load=PATIENCE) for name in ("one", "two", "three")}
    with Gateway(slow, memory=TWO) as gateway:
        asking = [threading.Thread(target=gateway.ask, args=(name,)) for name in slow]
        for thread in asking:
            thread.start()
        gateway.wait_until(lambda: [model["state"] for model in gateway.models().values()] == ["loading"] * 2)
        # The third request may reach the gateway after the first two began to load.
        gateway.wait_until(lambda: gateway.http.get("/models").json()["queue"] == 3)
        assert len(gateway.models()) == 2
        first = next(iter(gateway.models()))
        gateway.http.post("/models/stop", json={"model": first})
        gateway.wait_until(lambda: len(gateway.models().keys() - {first}) == 2)
        for name in gateway.models():
            gateway.http.post("/models/stop", json={"model": name})
        for thread in asking:
            thread.join(PATIENCE)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell whether it works")
def test_a_load_that_hangs_is_given_up_by_its_own_clock(tmp_path: Path) -> None:
    hangs = pretend_model(tmp_path / "hangs", load=PATIENCE)
    with Gateway({"hangs": hangs}, stall=1.5) as gateway:
        answers: list[httpx2.Response] = []
        waiting = threading.Thread(target=lambda: answers.append(gateway.ask("hangs")))
        waiting.start()
        pid = hanging(gateway, "hangs")
        waiting.join(PATIENCE)
        assert answers[0].status_code == 500
        assert (
            "made no progress for 1.5 s: it is suspended, or waiting for a file" in answers[0].json()["error"]
        )
        assert gone(pid)
        assert "made no progress for 1.5 s" in gateway.log


def test_a_gateway_that_ends_takes_its_loads_along(tmp_path: Path) -> None:
    slow = {name: pretend_model(tmp_path / name, load=PATIENCE) for name in ("one", "two")}
    with Gateway(slow) as gateway:
        asking = [threading.Thread(target=gateway.ask, args=(name,)) for name in slow]
        for thread in asking:
            thread.start()
        gateway.wait_until(lambda: all(gateway.models().get(name, {}).get("pid") for name in slow))
        pids = [model["pid"] for model in gateway.models().values()]
        gateway.process.send_signal(signal.SIGTERM)
        gateway.process.wait(PATIENCE)
        assert all(gone(pid) for pid in pids)
        for thread in asking:
            thread.join(PATIENCE)


def test_a_client_that_leaves_the_queue_is_not_waited_for(models: dict[str, Path]) -> None:
    with Gateway(models, memory=NEED + MIB) as gateway:
        body = {"model": "a", "prompt": "x", "held": True}
        with gateway.http.stream("POST", "/completion", json=body) as response:
            seen = response.iter_lines()
            next(seen)
            with pytest.raises(httpx2.ReadTimeout):
                httpx2.post(f"{gateway.url}/completion", json={"model": "b", "prompt": "x"}, timeout=0.5)
            gateway.wait_until(lambda: gateway.http.get("/models").json()["queue"] == 0)
            assert events(gateway.ask("a"))[-1]["done"] is True
            assert gateway.metric("diptych_loads_total") == 1


def test_a_waiting_request_can_be_cancelled_by_its_id(tmp_path: Path) -> None:
    models = {"slow": pretend_model(tmp_path / "slow", load=20)}
    with Gateway(models) as gateway:
        responses: list[httpx2.Response] = []

        def ask() -> None:
            body = {"model": "slow", "prompt": "x"}
            headers = {"X-Request-Id": "mine"}
            responses.append(
                httpx2.post(f"{gateway.url}/completion", json=body, headers=headers, timeout=PATIENCE)
            )

        asking = threading.Thread(target=ask)
        asking.start()
        gateway.wait_until(lambda: gateway.http.get("/models").json()["queue"] == 1)
        assert gateway.http.post("/cancel", json={"id": "mine"}).json() == {"cancelled": True}
        asking.join(PATIENCE)
        assert responses[0].status_code == 499
        assert gateway.http.post("/cancel", json={"id": "mine"}).json() == {"cancelled": False}


def test_a_full_queue_is_refused_with_a_time_that_grows(tmp_path: Path) -> None:
    models = {"slow": pretend_model(tmp_path / "slow", load=20)}

    async def main(gateway: Gateway) -> None:
        async with gateway.client() as client:
            body = {"model": "slow", "prompt": "x"}
            waiting = [asyncio.create_task(client.post("/completion", json=body)) for _ in range(130)]
            while (await client.get("/models")).json()["queue"] < 130:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
            refused = await client.post("/completion", json=body)
            assert refused.status_code == 503
            assert "the queue is full (130 requests" in refused.json()["error"]
            assert int(refused.headers["retry-after"]) == 4
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    with Gateway(models, queue=130) as gateway:
        asyncio.run(main(gateway))
