"""A model spread over two processes writes what it writes in one, and ends with either of them."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ended
from tests.runner.checkpoints import image_files, write
from tests.runner.live import ROOT, Live, events, text, tokens
from tests.toys import toy_text
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow

RUNNER = (sys.executable, "-m", "runner", "runner")
PROMPTS = ("Once upon a time", "The harbour wakes and " * 20, "Hello", "a b c d " * 100)
DRAWN: dict[str, Any] = {"temperature": 1.0, "seed": 5, "repeat_penalty": 1.2}


def spread(folder: Path, *arguments: str) -> Live:
    # Two processes on a few cores wait for each other: threads that spin would keep the other from its work.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        return Live(folder, "--tensor-parallel", "2", *arguments)


def ask(live: Live, prompt: str, **options: Any) -> list[int]:
    request = {"prompt": prompt, "options": {"num_predict": 12, **options}}
    return tokens(events(live.http.post("/completion", json=request)))


def rank_of(live: Live) -> int:
    """The process of the other rank."""
    actual = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(live.process.pid)],
        capture_output=True,
        text=True,
        check=True,
    )
    [pid] = [line.split()[0] for line in actual.stdout.splitlines() if "runner.distributed.worker" in line]
    return int(pid)


def gone(pid: int) -> bool:
    return wait_until(lambda: ended(pid))


@pytest.fixture(scope="module")
def two() -> Iterator[Live]:
    with spread(toy_text()) as live:
        yield live


def embed(live: Live) -> list[list[float]]:
    answer = live.http.post("/embedding", json={"content": list(PROMPTS[:3])})
    actual: list[list[float]] = answer.json()["embeddings"]
    return actual


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """What one process answers."""
    with Live(toy_text()) as one:
        texts = {prompt: ask(one, prompt) for prompt in PROMPTS}
        return texts | {"drawn": ask(one, PROMPTS[0], **DRAWN), "embeddings": embed(one)}


def test_two_ranks_write_what_one_process_writes(two: Live, alone: dict[str, Any]) -> None:
    assert [ask(two, prompt) for prompt in PROMPTS] == [alone[prompt] for prompt in PROMPTS]
    assert ask(two, PROMPTS[0], **DRAWN) == alone["drawn"]


def test_many_requests_share_their_steps(two: Live, alone: dict[str, Any]) -> None:
    actual: dict[int, list[int]] = {}
    asking = [
        threading.Thread(
            target=lambda index=index: actual.update({index: ask(two, PROMPTS[index % len(PROMPTS)])})
        )
        for index in range(8)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert actual == {index: alone[PROMPTS[index % len(PROMPTS)]] for index in range(8)}


def test_a_grammar_a_stop_string_and_log_probabilities_are_the_first_ranks_business(two: Live) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    request = {"prompt": "Say", "format": schema, "options": {"num_predict": 40, "temperature": 1, "seed": 1}}
    assert text(events(two.http.post("/completion", json=request))).startswith("{")
    first = events(two.http.post("/completion", json={"prompt": "Hello", "options": {"num_predict": 12}}))
    stop = text(first)[3:6]
    request = {"prompt": "Hello", "logprobs": True, "options": {"num_predict": 12, "stop": [stop]}}
    stopped = events(two.http.post("/completion", json=request))
    assert text(stopped) == text(first)[: text(first).index(stop)]
    assert stopped[-1]["stop_reason"] == "stop"
    assert stopped[0]["logprobs"][0]["logprob"] <= 0


def test_a_client_that_leaves_leaves_on_every_rank(two: Live, alone: dict[str, Any]) -> None:
    endless = {"prompt": "Hello", "options": {"num_predict": 4000}}
    with two.http.stream("POST", "/completion", json=endless) as response:
        assert next(response.iter_lines())
    with two.http.stream("POST", "/completion", json=endless, headers={"X-Request-Id": "it"}) as response:
        lines = response.iter_lines()
        assert next(lines)
        assert two.http.post("/cancel", json={"id": "it"}).json() == {"cancelled": True}
        assert '"error"' in list(lines)[-1]
    assert ask(two, PROMPTS[0]) == alone[PROMPTS[0]]
    assert two.http.get("/v1/status").json()["active"] == 0


def test_embeddings_are_those_of_one_process(two: Live, alone: dict[str, Any]) -> None:
    for ours, theirs in zip(embed(two), alone["embeddings"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_experts_and_compressed_attention_are_spread_too() -> None:
    folder = toy_text("glm4_moe_lite")
    with Live(folder) as one:
        expected = [ask(one, prompt) for prompt in PROMPTS]
    with spread(folder) as two:
        assert [ask(two, prompt) for prompt in PROMPTS] == expected


def test_a_runner_that_is_asked_to_stop_takes_its_ranks_along() -> None:
    with spread(toy_text(), "--kv-bits", "8") as live:
        rank = rank_of(live)
        assert len(ask(live, PROMPTS[1])) == 12
        live.ask_to_stop()
        assert live.process.wait(PATIENCE) == 0
        assert gone(rank)
        assert "error" not in live.log


@pytest.mark.parametrize("when", ["idle", "writing"])
def test_a_rank_that_dies_ends_the_runner_which_says_so(when: str) -> None:
    with spread(toy_text()) as live:
        rank = rank_of(live)
        if when == "idle":
            os.kill(rank, signal.SIGKILL)
        else:
            request = {"prompt": "Hello", "options": {"num_predict": 4000}}
            with live.http.stream("POST", "/completion", json=request) as response:
                lines = response.iter_lines()
                assert next(lines)
                os.kill(rank, signal.SIGKILL)
                last = list(lines)[-1]
            assert "rank 1 of the model ended" in last
            assert '"done":true' in last
        assert live.process.wait(PATIENCE) == 1
        assert live.log.splitlines()[-1].endswith("rank 1 of the model ended: killed by SIGKILL")


def test_no_rank_outlives_the_first() -> None:
    with spread(toy_text()) as live:
        rank = rank_of(live)
        live.process.kill()
        assert gone(rank)


def refused(folder: Path, ranks: str) -> str:
    done = subprocess.run(
        [*RUNNER, "--model", str(folder), "--port", "0", "--tensor-parallel", ranks],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_what_cannot_be_spread_is_refused_by_name(tmp_path: Path) -> None:
    assert "cannot be divided evenly among 3 devices; --tensor-parallel can be 1, 2" in refused(
        toy_text(), "3"
    )
    pictures = write(tmp_path, image_files())
    assert "is a picture model" in refused(pictures, "2")
    assert "needs to be divisible by the quantization group size" in refused(toy_text(bits=8), "2")
