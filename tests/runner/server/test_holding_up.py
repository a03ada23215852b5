"""A real runner under clients that come all at once, leave, cancel, and under signals."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.runner.live import ROOT, Live, streaming
from tests.toys import toy_text
from tests.waiting import PATIENCE, wait_until

LONG = {"num_predict": 3000}


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with Live(toy_text("qwen3")) as runner:
        yield runner


def read_all(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def wait_for(live: Live, active: int) -> None:
    wait_until(lambda: live.status()["active"] == active, live.status)


def test_a_hundred_clients_at_once_all_get_their_text(live: Live) -> None:
    together = threading.Barrier(100)

    def ask(number: int) -> int:
        together.wait()
        with live.begin(f"Client {number} asks", options={"num_predict": 8}) as connection:
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            while b'"done":true' not in answer:
                piece = connection.recv(65536)
                assert piece, answer[-300:]
                answer += piece
            return answer.count(b'"token"')

    with ThreadPoolExecutor(100) as pool:
        assert list(pool.map(ask, range(100))) == [8] * 100
    live.wait_until_idle()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(live: Live, stream: bool) -> None:
    connection = live.begin("The harbour wakes", stream=stream, options=LONG)
    wait_for(live, active=1)
    connection.close()
    began = time.monotonic()
    live.wait_until_idle()
    noticing = time.monotonic() - began
    began = time.monotonic()
    live.complete("The harbour wakes", num_predict=LONG["num_predict"] // 10)
    assert noticing < 5 * (time.monotonic() - began), "writing all of it takes twice as long"
    assert live.complete("Why", num_predict=2)[-1]["eval_count"] == 2


def test_a_client_that_leaves_while_it_waits_is_never_begun() -> None:
    with Live(toy_text("qwen3"), "--batch", "1") as live:
        first = live.begin("The harbour wakes", options=LONG)
        wait_for(live, active=1)
        second = live.begin("Her turn never comes", options=LONG)
        wait_until(lambda: live.status()["queue"], live.status)
        second.close()
        first.close()
        assert live.wait_until_idle()["queue"] == 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_request_is_cancelled_by_its_id(live: Live, stream: bool) -> None:
    name = f"call-{stream}"
    body = {"prompt": "The harbour wakes", "options": LONG, "stream": stream}
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(live.http.post, "/completion", json=body, headers={"X-Request-Id": name})
        wait_for(live, active=1)
        assert live.http.post("/cancel", json={"id": name}).json() == {"cancelled": True}
        response = pending.result(PATIENCE)
    assert response.headers["x-request-id"] == name
    last = json.loads(response.text.splitlines()[-1])
    assert "cancelled" in last["error"]
    assert not last.get("done_reason")
    live.wait_until_idle()
    assert live.http.post("/cancel", json={"id": name}).json() == {"cancelled": False}


def test_a_slow_reader_holds_up_nobody(live: Live) -> None:
    with live.begin("The harbour wakes", options=LONG):
        wait_for(live, active=1)
        assert live.complete("Why", num_predict=5)[-1]["eval_count"] == 5
        assert live.status()["active"] == 1
    live.wait_until_idle()


def test_a_long_prompt_lets_the_others_go_on(live: Live) -> None:
    """While it is read in, whoever is writing gets further tokens."""
    long_prompt = "She counted boats and gulls and ropes. " * 100
    with streaming(live, "The harbour wakes", **LONG) as actual:
        next(actual)
        with live.begin(long_prompt, options={"num_predict": 1}) as other:
            other.setblocking(False)
            between = 0
            while True:
                next(actual)
                between += 1
                with contextlib.suppress(BlockingIOError):
                    assert other.recv(100).startswith(b"HTTP/1.1 200")
                    break
    assert between > 3
    live.wait_until_idle()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_while_idle_it_is_gone_at_once(number: int) -> None:
    with Live(toy_text("qwen3")) as live:
        live.ask_to_stop(number)
        assert live.process.wait(PATIENCE) == 0
        assert "Traceback" not in live.log


def test_asked_to_stop_as_soon_as_the_port_is_known_it_ends_well() -> None:
    command = [sys.executable, "-m", "runner", "--model", str(toy_text("qwen3")), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        assert int(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


@pytest.mark.slow
def test_jobs_get_five_seconds_and_no_more() -> None:
    with Live(toy_text("qwen3", max_position_embeddings=200_000)) as live:
        with live.begin("The harbour wakes", options={"num_predict": 16000}) as connection:
            wait_for(live, active=1)
            began = time.monotonic()
            live.ask_to_stop()
            answer = read_all(connection)
            assert live.process.wait(PATIENCE) == 0
        assert 4 < time.monotonic() - began < 12
        assert b'"error"' in answer


def test_a_second_signal_ends_it_at_once() -> None:
    with Live(toy_text("qwen3")) as live, live.begin("The harbour wakes", options=LONG):
        wait_for(live, active=1)
        live.ask_to_stop()
        wait_until(lambda: "stopping: " in live.log)
        live.ask_to_stop()
        assert live.process.wait(PATIENCE) == 130
