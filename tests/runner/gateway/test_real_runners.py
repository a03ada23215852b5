"""The gateway over the runner itself: a text and a picture model side by side, started by the command."""

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from tests.pipelines import toys
from tests.processes import RUN
from tests.runner.cli.commands.terminal import endless
from tests.runner.gateway.live import gone
from tests.runner.live import ROOT, events
from tests.toys import toy_text
from tests.waiting import PATIENCE, wait_until

GAUGE = re.compile(r'diptych_model_(\w+)\{model="([^"]+)"\} (\S+)')
CONFIG = """
[serve]
port = 0
keep_alive = "10m"

[aliases]
draws = "{klein}"
long = "{long}"

[models.draws]
memory = "staged"
keep_alive = "20m"
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway as its command starts it, with a folder named at the start and one as an alias."""
    folder = tmp_path_factory.mktemp("gateway")
    klein = toys.write("klein", folder / "klein").folder
    (folder / "config.toml").write_text(CONFIG.format(klein=klein, long=endless()))
    command = [
        *RUN,
        "--config",
        str(folder / "config.toml"),
        "serve",
        str(toy_text()),
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        yield url
        pids = [model["pid"] for model in httpx2.get(f"{url}/models").json()["models"]]
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert all(map(gone, pids))


def ask(url: str, path: str, **body: object) -> httpx2.Response:
    return httpx2.post(f"{url}{path}", json=body, timeout=PATIENCE)


def test_text_and_pictures_beside_each_other(url: str) -> None:
    name = toy_text().name
    stream = events(ask(url, "/completion", model=name, prompt="Once", options={"num_predict": 5}))
    assert [event["token"] is not None for event in stream[:-1]] == [True] * 5
    drawn = events(ask(url, "/completion", model="draws", prompt="a boat", width=64, height=48, steps=2))
    assert [event.get("step") for event in drawn[:3]] == [None, 1, 2]
    assert Image.open(io.BytesIO(base64.b64decode(drawn[-1]["image"]))).size == (64, 48)
    shown = {model["mode"]: model for model in httpx2.get(f"{url}/models").json()["models"]}
    assert (shown["text"]["keep_alive"], shown["image"]["keep_alive"]) == (-1, 1200)
    assert shown["text"]["context"] == 4096


def test_the_other_calls_reach_the_runner_too(url: str) -> None:
    name = str(toy_text())
    tokens = ask(url, "/tokenize", model=name, content="Hello").json()["tokens"]
    assert ask(url, "/detokenize", model=name, tokens=tokens).json() == {"content": "Hello"}
    assert len(ask(url, "/embedding", model=name, content="Hello").json()["embedding"]) == 64
    whole = ask(url, "/completion", model=name, prompt="x", stream=False, options={"num_predict": 3}).json()
    assert whole["done"] is True
    assert len(whole["tokens"]) == 3


def test_a_runners_refusals_keep_their_status_and_words(url: str) -> None:
    refused = ask(url, "/completion", model=str(toy_text()), prompt="x", options={"temperature": -1})
    assert refused.status_code == 400
    assert "options.temperature: -1 is not allowed" in refused.json()["error"]
    refused = ask(url, "/tokenize", model="draws", content="x")
    assert refused.status_code == 400
    assert "makes pictures" in refused.json()["error"]


def test_a_refusal_after_the_loading_was_told_is_a_last_event(url: str) -> None:
    httpx2.post(f"{url}/models/stop", json={"model": str(toy_text())}, timeout=PATIENCE)
    body = {"model": str(toy_text()), "prompt": "x", "options": {"temperature": -1}, "progress": True}
    *loading, last = httpx2.post(f"{url}/completion", json=body, timeout=PATIENCE).text.splitlines()
    assert loading
    assert json.loads(last) == {"error": json.loads(last)["error"], "done": True}
    assert "temperature" in last


def test_a_request_in_flight_is_cancelled_by_its_id(url: str) -> None:
    body = {"model": str(toy_text()), "prompt": "x", "options": {"num_predict": 100_0000}}
    with httpx2.stream(
        "POST", f"{url}/completion", json=body, headers={"X-Request-Id": "mine"}, timeout=PATIENCE
    ) as response:
        assert response.headers["x-request-id"] == "mine"
        seen = response.iter_lines()
        next(seen)
        assert ask(url, "/cancel", id="mine").json() == {"cancelled": True}
        *_, last = seen
        assert "cancelled" in last


def test_a_client_that_leaves_ends_its_work_in_the_runner(url: str) -> None:
    def active() -> int:
        return sum(model["active"] for model in httpx2.get(f"{url}/models").json()["models"])

    body = {"model": str(toy_text()), "prompt": "x", "options": {"num_predict": 100_0000}}
    with httpx2.stream("POST", f"{url}/completion", json=body, timeout=PATIENCE) as response:
        seen = response.iter_lines()
        next(seen)
        assert active() == 1
    wait_until(lambda: not active())


def test_a_runner_that_is_killed_in_mid_stream_is_told_of_and_started_again(url: str) -> None:
    body = {"model": str(toy_text()), "prompt": "x", "options": {"num_predict": 100_0000}}
    with httpx2.stream("POST", f"{url}/completion", json=body, timeout=PATIENCE) as response:
        seen = response.iter_lines()
        next(seen)
        models = httpx2.get(f"{url}/models").json()["models"]
        os.kill(next(model["pid"] for model in models if model["mode"] == "text"), signal.SIGKILL)
        *_, last = seen
    assert json.loads(last)["done"] is True
    assert json.loads(last)["error"].endswith("(killed by SIGKILL)")
    again = events(ask(url, "/completion", model=str(toy_text()), prompt="x", options={"num_predict": 2}))
    assert again[-1]["done"] is True


def test_metrics_tell_of_all(url: str) -> None:
    text = httpx2.get(f"{url}/metrics").text
    for name in (
        "models",
        "memory_bytes",
        "memory_budget_bytes",
        "queue",
        "active",
        "loads_total",
        "load_seconds_count",
    ):
        assert f"\ndiptych_{name}" in text
    assert "diptych_first_event_seconds_bucket" in text
    assert "diptych_request_seconds_bucket" in text


def test_a_model_that_is_not_there_stops_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runner", "serve", "--port", "0", str(tmp_path / "nothing")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 3
    assert "nothing" in done.stderr


def test_schedulers_read_how_busy_each_model_is(url: str) -> None:
    wait_until(lambda: httpx2.get(f"{url}/readyz").status_code == 200)
    assert httpx2.get(f"{url}/livez").json() == httpx2.get(f"{url}/healthz").json()
    body = {"model": "long", "prompt": "a", "options": {"num_predict": 100_000, "ignore_eos": True}}

    def gauges() -> dict[str, float]:
        found = GAUGE.findall(httpx2.get(f"{url}/metrics").text)
        return {name: float(value) for name, model, value in found if model == str(endless())}

    assert gauges() == {}
    with httpx2.stream("POST", f"{url}/completion", json=body, timeout=PATIENCE) as answer:
        lines = answer.iter_lines()  # kept: when it goes, the connection is closed
        assert "content" in next(lines)
        wait_until(lambda: 0 < gauges()["kv_cache_usage_ratio"] < 1)
        busy = gauges()
        assert (busy["requests_running"], busy["requests_waiting"]) == (1, 0)
    wait_until(lambda: gauges()["requests_running"] == 0)
