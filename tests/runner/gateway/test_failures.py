"""Whatever happens to its runners, its clients and its machine, the gateway goes on; and ends as it should."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.runner.gateway.live import Gateway, Streaming, gone
from tests.runner.live import ROOT
from tests.runner.pretend import DONE, pretend_model, tell
from tests.runner.sources.test_alike import put_into_store
from tests.toys import toy_text
from tests.waiting import PATIENCE, wait_until


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    return {name: pretend_model(tmp_path / name, events=100) for name in "ab"}


@pytest.fixture
def gateway(models: dict[str, Path]) -> Iterator[Gateway]:
    with Gateway(models) as gateway:
        yield gateway


# -- a runner is killed


def test_in_mid_stream_its_client_is_told_and_others_notice_nothing(
    gateway: Gateway, models: dict[str, Path]
) -> None:
    other = Streaming(gateway, "b", held=True)
    killed = Streaming(gateway, "a", held=True)
    os.kill(killed.seen[0]["pid"], signal.SIGKILL)
    last = killed.last()
    assert last["done"] is True
    assert last["error"].endswith("(killed by SIGKILL)")
    assert gateway.events("a", events=1)[0]["pid"] != killed.seen[0]["pid"]
    tell(models["b"], "answer")
    assert "error" not in other.last()
    assert len(other.seen) == 101
    assert gateway.metric("diptych_crashes_total") == 1


def test_while_idle_the_next_request_starts_a_new_one(gateway: Gateway) -> None:
    pid = gateway.events("a", events=1)[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    gateway.wait_until(lambda: "a" not in gateway.models())
    assert gateway.events("a", events=1)[0]["pid"] != pid


def test_while_idle_even_a_request_at_that_very_moment_is_answered_or_told(gateway: Gateway) -> None:
    pid = gateway.events("a", events=1)[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    answer = gateway.ask("a", events=1)
    assert answer.status_code in (200, 500)
    assert answer.status_code == 200 or "SIGKILL" in answer.json()["error"]


def test_in_load_its_clients_are_told_and_the_next_load_works(tmp_path: Path) -> None:
    models = {"slow": pretend_model(tmp_path / "slow", held=True)}
    with Gateway(models) as gateway:
        responses: list[httpx2.Response] = []
        asking = threading.Thread(target=lambda: responses.append(gateway.ask("slow")))
        asking.start()
        gateway.wait_until(lambda: gateway.models().get("slow", {}).get("pid"))
        os.kill(gateway.models()["slow"]["pid"], signal.SIGKILL)
        asking.join(PATIENCE)
        assert responses[0].status_code == 500
        assert responses[0].json()["error"].endswith("(killed by SIGKILL)")
        tell(models["slow"], "load")
        assert gateway.events("slow")[-1]["done"] is True


def test_the_last_error_is_what_clients_are_told(tmp_path: Path) -> None:
    models = {"sick": pretend_model(tmp_path / "sick", kill_at=2)}
    with Gateway(models) as gateway:
        assert gateway.events("sick")[-1] == {
            "error": "out of memory, it says (killed by SIGKILL)",
            "done": True,
        }


def test_a_model_stopped_while_it_loads_is_to_be_asked_for_again(tmp_path: Path) -> None:
    models = {"slow": pretend_model(tmp_path / "slow", load=600)}

    def ask_and_stop(gateway: Gateway) -> list[httpx2.Response]:
        with ThreadPoolExecutor(2) as threads:
            pending = [threads.submit(gateway.ask, "slow") for _ in range(2)]
            gateway.wait_until(lambda: gateway.models().get("slow", {}).get("queue") == 2)
            gateway.wait_until(lambda: gateway.models().get("slow", {}).get("pid"))
            stopped = gateway.http.post("/models/stop", json={"model": "slow"})
            assert stopped.json() == {"status": "stopped"}
            return [answer.result(60) for answer in pending]

    with Gateway(models) as gateway:
        for _ in range(4):  # and is never held off for it, as one whose runner keeps crashing
            for answer in ask_and_stop(gateway):
                assert answer.status_code == 503
                assert "was stopped while it loaded" in answer.json()["error"]
                assert answer.headers["retry-after"] == "1"
        assert gateway.metric("diptych_crashes_total") == 0


def test_three_deaths_within_a_minute_hold_a_model_off(tmp_path: Path) -> None:
    models = {
        "sick": pretend_model(tmp_path / "sick", die=[1, "no luck"]),
        "well": pretend_model(tmp_path / "well"),
    }
    with Gateway(models) as gateway:
        for _ in range(3):
            refused = gateway.ask("sick")
            assert (refused.status_code, refused.json()["error"]) == (500, "no luck (exit 1)")
        held = gateway.ask("sick")
        assert held.status_code == 503
        assert "keeps crashing" in held.json()["error"]
        assert "no luck (exit 1)" in held.json()["error"]
        assert 0 < int(held.headers["retry-after"]) <= 6
        assert gateway.events("well")[-1]["done"] is True


def test_a_runner_that_answers_no_health_check_is_killed(tmp_path: Path) -> None:
    models = {"deaf": pretend_model(tmp_path / "deaf")}
    with Gateway(models, unresponsive=0.1, health_timeout=2) as gateway:
        stream = Streaming(gateway, "deaf", held=True)
        tell(models["deaf"], "deaf")
        assert stream.last()["error"] == "it did not answer its health check (killed by SIGKILL)"
        gateway.wait_until(lambda: not gateway.models())


def blocked(gateway: Gateway) -> None:
    gateway.process.send_signal(signal.SIGUSR1)


def stopped(gateway: Gateway) -> None:
    gateway.process.send_signal(signal.SIGSTOP)
    time.sleep(4)
    gateway.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("pause", [blocked, stopped])
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_runner_is_not_killed_for_a_pause_of_the_gateway_s_own(
    tmp_path: Path, pause: Callable[[Gateway], None], replicas: int
) -> None:
    """Its health check is under way all the time, and the pause is longer than it may take."""
    folder = pretend_model(tmp_path / "model", slow=0.5, events=400, pause=0.02)
    settings = {"health_every": 0.01, "health_timeout": 2, "unresponsive": 1, "replicas": replicas}
    with Gateway({"model": folder}, **settings) as gateway:
        stream = Streaming(gateway, "model")
        for _ in range(2):
            pause(gateway)
            gateway.wait_until(lambda: gateway.http.get("/healthz").status_code == 200)
        assert stream.last() == DONE
        assert len(stream.seen) == 401
        assert gateway.metric("diptych_crashes_total") == 0
        assert "has not answered" not in gateway.log


def test_a_runner_that_is_never_healthy_is_given_up(tmp_path: Path) -> None:
    models = {"never": pretend_model(tmp_path / "never", never=True, log="thinking")}
    with Gateway(models, load_timeout=0.5) as gateway:
        refused = gateway.ask("never")
        assert refused.status_code == 500
        assert "did not become ready" in refused.json()["error"]
        assert "thinking" in refused.json()["error"]
        assert gateway.models() == {}


# -- the gateway is killed, or asked to stop


def test_a_gateway_that_is_killed_takes_its_runners_with_it() -> None:
    with Gateway({"toy": toy_text()}, pretend=False) as gateway:
        gateway.events("toy", options={"num_predict": 2})
        pid = next(iter(gateway.models().values()))["pid"]
        assert not gone(pid)
        gateway.process.kill()
        gateway.process.wait()
        wait_until(lambda: gone(pid), lambda: "the runner outlives its gateway")


def test_a_stop_waits_for_what_is_in_flight_and_refuses_the_rest(
    gateway: Gateway, models: dict[str, Path]
) -> None:
    stream = Streaming(gateway, "a", held=True)
    pid = stream.seen[0]["pid"]
    gateway.process.send_signal(signal.SIGTERM)
    gateway.wait_until(lambda: "stopping" in gateway.log)
    refused = gateway.ask("a")
    assert refused.status_code == 503
    assert "stopping" in refused.json()["error"]
    tell(models["a"], "answer")
    assert "error" not in stream.last()
    assert len(stream.seen) == 101
    assert gateway.process.wait(PATIENCE) == 0
    assert gone(pid)


def test_what_takes_longer_than_the_grace_ends_with_an_error(models: dict[str, Path]) -> None:
    with Gateway(models, grace=0.3) as gateway:
        stream = Streaming(gateway, "a", held=True)
        assert gateway.stop(signal.SIGINT) == 0
        assert stream.last()["error"]
        assert stream.last()["done"] is True


def test_a_stop_while_a_model_loads_is_quick(tmp_path: Path) -> None:
    with Gateway({"slow": pretend_model(tmp_path / "slow", load=60)}) as gateway:
        responses: list[httpx2.Response] = []
        asking = threading.Thread(target=lambda: responses.append(gateway.ask("slow")))
        asking.start()
        gateway.wait_until(lambda: gateway.models().get("slow", {}).get("pid"))
        pid = gateway.models()["slow"]["pid"]
        assert gateway.stop() == 0
        asking.join(PATIENCE)
        assert responses[0].status_code == 503
        assert gone(pid)


def test_a_second_signal_ends_it_at_once(gateway: Gateway) -> None:
    stream = Streaming(gateway, "a", held=True)
    gateway.process.send_signal(signal.SIGTERM)
    gateway.wait_until(lambda: "stopping" in gateway.log)
    assert gateway.stop() == 130
    wait_until(lambda: gone(stream.seen[0]["pid"]))


def test_two_gateways_on_one_port() -> None:
    with Gateway({}) as gateway:
        command = [sys.executable, "-m", "runner", "serve", "--port", str(gateway.port)]
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
        assert second.returncode == 1
        assert (
            f"already listening on 127.0.0.1:{gateway.port}; use that, or choose another port"
            in second.stderr
        )
        assert gateway.http.get("/healthz").status_code == 200


# -- the machine


def test_a_hub_that_says_nothing_keeps_nobody_from_what_is_here(
    models: dict[str, Path], tmp_path: Path
) -> None:
    """Nor a gateway from ending."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        environment = {
            "HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "HF_HOME": str(tmp_path / "hub"),
            "HF_HUB_OFFLINE": "0",
        }
        with Gateway(models, environment=environment) as gateway:
            responses: list[httpx2.Response] = []

            def ask(number: int) -> None:
                responses.append(gateway.ask(f"owner/name-{number}"))

            asking = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
            for thread in asking:
                thread.start()
            assert gateway.events("a", events=1)[-1]["done"] is True
            assert gateway.events("b", events=1)[-1]["done"] is True
            assert responses == []
            assert gateway.stop() == 0
            for thread in asking:
                thread.join(PATIENCE)
            assert {answer.status_code for answer in responses} == {503}


def test_a_model_whose_folder_is_removed_goes_on_until_it_is_ended(
    gateway: Gateway, models: dict[str, Path]
) -> None:
    gateway.events("a", events=1)
    shutil.rmtree(models["a"])
    assert gateway.events("a", events=1)[-1]["done"] is True
    gateway.http.post("/models/stop", json={"model": "a"})
    refused = gateway.ask("a")
    assert refused.status_code == 404
    assert str(models["a"]) in refused.json()["error"]
    assert gateway.events("b", events=1)[-1]["done"] is True


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only where there is a device that is always full")
def test_a_full_disk_under_its_log_stops_nothing(models: dict[str, Path]) -> None:
    with Gateway(models, log="/dev/full") as gateway:
        assert gateway.events("a", events=1)[-1]["done"] is True
        os.kill(gateway.models()["a"]["pid"], signal.SIGKILL)
        gateway.wait_until(lambda: "a" not in gateway.models())
        assert gateway.events("a", events=1)[-1]["done"] is True


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, str]:
    """A toy in an Ollama store, whose texts are copied to a cache before they are read: the environment for it."""
    folder = toy_text()
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    put_into_store(tmp_path / "store", folder, files)
    return {"OLLAMA_MODELS": str(tmp_path / "store"), "DIPTYCH_CACHE": str(tmp_path / "cache")}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit cannot be set from outside")
def test_a_full_disk_under_its_cache_is_named_and_once_there_is_room_it_loads(
    tmp_path: Path, stored: dict[str, str]
) -> None:
    with Gateway({}, pretend=False, environment=stored) as gateway:

        def room(size: int) -> None:
            resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        room(1000)
        refused = gateway.ask("x/toy:1b")
        assert refused.status_code == 500
        assert f"cannot be copied to {tmp_path / 'cache'}" in refused.json()["error"]
        assert "File too large" in refused.json()["error"]
        assert gateway.http.get("/healthz").status_code == 200
        room(resource.RLIM_INFINITY)
        assert gateway.events("x/toy:1b", options={"num_predict": 2})[-1]["done"] is True


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, stored: dict[str, str]) -> None:
    (tmp_path / "cache").write_text("not a folder")
    with Gateway({}, pretend=False, environment=stored) as gateway:
        refused = gateway.ask("x/toy:1b")
        assert refused.status_code == 500
        assert "cannot be copied to" in refused.json()["error"]
        assert refused.json()["error"].endswith("(exit 1)")
        (tmp_path / "cache").unlink()
        assert gateway.events("x/toy:1b", options={"num_predict": 2})[-1]["done"] is True
