"""Clients that leave, or read slowly, or not at all: they hold nothing that others could use."""

import json
import socket
import time
from pathlib import Path
from typing import Any

from tests.runner.gateway.live import Gateway
from tests.runner.pretend import pretend_model
from tests.waiting import PATIENCE


def test_a_client_that_leaves_frees_the_runner(tmp_path: Path) -> None:
    body = {"model": "a", "prompt": "x", "events": 100_000, "pause": 0.02}
    with Gateway({"a": pretend_model(tmp_path / "a")}) as gateway:
        with gateway.http.stream("POST", "/completion", json=body) as response:
            seen = response.iter_lines()
            assert next(seen)
            assert gateway.models()["a"]["active"] == 1
        gateway.wait_until(lambda: gateway.models()["a"]["active"] == 0)
        gateway.wait_until(lambda: gateway.metric("diptych_cancelled_total") == 1)


def reader(gateway: Gateway, **body: Any) -> socket.socket:
    """A client that has asked, and reads as it is told."""
    payload = json.dumps({"model": "a", "prompt": "x", **body}).encode()
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    head = f"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(payload)}\r\n\r\n"
    connection.sendall(head.encode() + payload)
    return connection


def test_a_client_that_reads_a_byte_a_second_is_dropped_and_its_work_ends(tmp_path: Path) -> None:
    models = {"a": pretend_model(tmp_path / "a", line=100_000, events=100_000)}
    with Gateway(models, stall=1) as gateway, reader(gateway) as slow:
        for _ in range(3):
            slow.recv(1)
            time.sleep(1)
        gateway.wait_until(lambda: gateway.models()["a"]["active"] == 0)
        assert "dropped a client that does not read" in gateway.log
        assert gateway.events("a", events=1)[-1]["done"] is True


def test_a_slow_client_holds_no_model_whose_answer_is_complete(tmp_path: Path) -> None:
    """What fits into the gateway's own memory is taken off the runner, whoever reads it when."""
    models = {"a": pretend_model(tmp_path / "a", line=100_000, events=35)}
    with Gateway(models, stall=60) as gateway, reader(gateway) as slow:
        slow.recv(1)
        gateway.wait_until(lambda: gateway.models()["a"]["active"] == 0)
        gateway.http.post("/models/stop", json={"model": "a"})
        assert gateway.models() == {}
        received = 0
        while chunk := slow.recv(1 << 20):
            received += len(chunk)
            if b'"done_reason"' in chunk:
                break
        assert received > 3_500_000


def test_a_client_of_http_1_0_gets_its_answer_whole_and_without_chunks(tmp_path: Path) -> None:
    payload = b'{"model": "a", "prompt": "x", "events": 3, "progress": true}'
    head = b"POST /completion HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(payload)
    with (
        Gateway({"a": pretend_model(tmp_path / "a", load=0.3)}) as gateway,
        socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE) as connection,
    ):
        connection.sendall(head + payload)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    headers, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in headers.lower()
    assert b"content-length: %d\r\n" % len(body) in headers + b"\r\n"
    events = [json.loads(line) for line in body.splitlines()]
    assert events[0]["status"] == "loading"
    assert [event.get("token") for event in events if "token" in event] == [0, 1, 2]
    assert events[-1]["done"] is True
