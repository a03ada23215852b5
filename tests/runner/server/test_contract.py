"""The wire contract of a language model's runner, through the real process."""

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.runner.live import ROOT, Event, Live, events, streaming, text, tokens
from tests.toys import toy_text
from tests.waiting import PATIENCE, wait_until

DURATIONS = {"prompt_eval_duration", "eval_duration"}
DONE = DURATIONS | {"done", "done_reason", "stop_reason", "prompt_eval_count", "eval_count", "cached"}
DONE |= {"drafted", "accepted"}


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with Live(toy_text("qwen3")) as runner:
        yield runner


# -- the model as a whole


def test_status_has_the_keys_that_clients_know(live: Live) -> None:
    status = live.status()
    assert (status["Status"], status["Progress"], status["mode"]) == (0, 100, "text")
    assert status["ContextLength"] == 4096
    assert status["Memory"] > 100_000
    assert {"model", "queue", "cache_bytes", "cache_limit"} <= status.keys()


def test_the_model_is_listed_and_loading_it_again_succeeds(live: Live) -> None:
    listed = live.http.get("/v1/models").json()
    assert listed["Success"] is True
    assert [model["mode"] for model in listed["models"]] == ["text"]
    assert live.http.post("/v1/models").json() == {"Success": True}
    assert live.http.post("/load").json() == {"Success": True}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/completion", 405),
        ("PUT", "/v1/models", 405),
        ("GET", "/embedding", 405),
        ("GET", "/v1/nothing", 404),
        ("POST", "/completion/", 404),
        ("POST", "/../etc/passwd", 404),
    ],
)
def test_refusals_of_the_router_are_json_too(live: Live, method: str, path: str, status: int) -> None:
    response = live.http.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]


def test_a_request_id_is_echoed_and_made_when_absent(live: Live) -> None:
    assert live.http.get("/health", headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert re.fullmatch(r"[0-9a-f]{32}", live.http.get("/health").headers["x-request-id"])
    strange = live.http.get("/health", headers={"X-Request-Id": "a b"}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", strange)


def test_metrics_count_what_was_done(live: Live) -> None:
    def value(name: str) -> float:
        match = re.search(rf"^{name} (\S+)$", live.http.get("/metrics").text, re.MULTILINE)
        assert match
        return float(match[1])

    before = value("diptych_generated_tokens_total")
    live.complete("Why", num_predict=5)
    assert value("diptych_generated_tokens_total") == before + 5
    assert value("diptych_queue") == 0
    assert value("diptych_memory_bytes") > 0


# -- completion


def test_a_text_is_a_line_a_token_and_then_what_was_done(live: Live) -> None:
    response = live.http.post("/completion", json={"prompt": "Why", "options": {"num_predict": 6}})
    assert response.headers["content-type"] == "application/x-ndjson"
    stream = events(response)
    assert [event.keys() for event in stream[:-1]] == [{"content", "token"}] * 6
    assert stream[-1].keys() == DONE
    assert stream[-1]["done_reason"] == 1
    assert stream[-1]["stop_reason"] == "length"
    assert stream[-1]["eval_count"] == 6
    assert all(stream[-1][key] > 0 for key in DURATIONS)


def test_both_paths_and_loose_options_are_taken(live: Live) -> None:
    expected = live.complete("Why", num_predict=4)
    loose = live.http.post("/v1/completions", json={"prompt": "Why", "max_tokens": 4})
    assert tokens(events(loose)) == tokens(expected)


def test_without_streaming_it_is_one_object(live: Live) -> None:
    expected = live.complete("Why", num_predict=4)
    body = {"prompt": "Why", "stream": False, "options": {"num_predict": 4}}
    whole = live.http.post("/completion", json=body).json()
    assert whole["content"] == text(expected)
    assert whole["tokens"] == tokens(expected)
    assert whole["done"] is True


def test_a_client_of_http_1_0_gets_the_same_lines_without_chunks(live: Live) -> None:
    body = b'{"prompt": "Why", "options": {"num_predict": 3}}'
    head = f"POST /completion HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", live.port), timeout=PATIENCE) as connection:
        connection.sendall(head + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    headers, _, content = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in headers.lower()
    assert b"application/x-ndjson" in headers
    assert tokens([json.loads(line) for line in content.splitlines()]) == tokens(
        live.complete("Why", num_predict=3)
    )


def test_a_stop_string_is_found_across_tokens_and_nothing_of_it_is_sent(live: Live) -> None:
    whole = text(live.complete("Why", num_predict=40))
    middle = len(whole) // 2
    stop = whole[middle - 3 : middle + 4]
    stream = live.complete("Why", num_predict=40, stop=["never", stop])
    assert text(stream) == whole[: whole.index(stop)]
    assert stream[-1]["stop_reason"] == "stop"
    assert stream[-1]["stop_string"] == stop
    assert stream[-1]["done_reason"] == 0


def test_only_whole_characters_are_sent_and_together_they_are_the_decoded_tokens(live: Live) -> None:
    for seed in range(6):
        stream = live.complete("海🫖", num_predict=60, temperature=2.0, seed=seed)
        whole = live.http.post("/detokenize", json={"tokens": tokens(stream)}).json()["content"]
        assert text(stream) == whole


def test_messages_go_through_the_chat_template(live: Live) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "options": {"num_predict": 3}}
    chat = events(live.http.post("/completion", json=body))
    parts = {**body, "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}
    assert tokens(events(live.http.post("/completion", json=parts))) == tokens(chat)
    assert chat[-1]["prompt_eval_count"] > live.complete("Hi", num_predict=1)[-1]["prompt_eval_count"]


def test_log_probabilities_come_with_each_token(live: Live) -> None:
    body = {"prompt": "Why", "logprobs": True, "top_logprobs": 3, "options": {"num_predict": 3}}
    for event in events(live.http.post("/completion", json=body))[:-1]:
        (actual,) = event["logprobs"]
        assert actual["logprob"] <= 0
        assert [top["logprob"] for top in actual["top_logprobs"]] == sorted(
            (top["logprob"] for top in actual["top_logprobs"]), reverse=True
        )
        assert actual["top_logprobs"][0]["id"] == event["token"], "greedy takes the likeliest"
        assert bytes(actual["bytes"]).decode(errors="replace") == actual["token"]


SCHEMA = {
    "type": "object",
    "properties": {"boats": {"type": "integer"}, "open": {"enum": ["yes", "no"]}},
    "required": ["boats", "open"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("seed", range(4))
def test_a_schema_is_followed(live: Live, seed: int) -> None:
    options = {"num_predict": 400, "temperature": 1.0, "seed": seed, "logit_bias": {}}
    stream = events(live.http.post("/completion", json={"prompt": "x", "format": SCHEMA, "options": options}))
    if stream[-1]["stop_reason"] == "stop":
        answer = json.loads(text(stream))
        assert isinstance(answer["boats"], int)
        assert answer["open"] in ("yes", "no")
    else:
        assert text(stream).lstrip().startswith("{")


def test_unknown_options_are_ignored_and_named(live: Live) -> None:
    stream = live.complete("Why", num_predict=2, mirostat=2)
    assert stream[-1]["warnings"] == ["options.mirostat is unknown and was ignored"]


def test_a_known_beginning_is_reported_as_cached(live: Live) -> None:
    prompt = "The boats of the harbour are counted twice a day. " * 4
    live.complete(prompt, num_predict=2)
    again = live.complete(prompt, num_predict=2)
    assert again[-1]["cached"] == again[-1]["prompt_eval_count"] - 1
    assert live.status()["cache_bytes"] > 0


# -- tokens and vectors


def test_tokens_there_and_back(live: Live) -> None:
    content = "The harbour: 海 🫖 é́\n"
    ids = live.http.post("/tokenize", json={"content": content}).json()["tokens"]
    assert live.http.post("/detokenize", json={"tokens": ids}).json() == {"content": content}
    assert live.http.post("/v1/tokenize", content=content.encode()).json() == ids, "qwen3 has no BOS"


def test_plain_tokenizing_begins_with_the_models_start() -> None:
    with Live(toy_text("llama")) as llama:
        start = json.loads((toy_text("llama") / "config.json").read_text())["bos_token_id"]
        plain = llama.http.post("/v1/tokenize", content=b"harbour").json()
        assert plain == [start, *llama.http.post("/tokenize", json={"content": "harbour"}).json()["tokens"]]


def test_a_chat_becomes_the_prompt_that_the_model_reads(live: Live) -> None:
    body = {"messages": [{"role": "user", "content": "How is the sea?"}]}
    rendered = live.http.post("/apply-template", json=body).json()
    assert "How is the sea?" in rendered["prompt"]
    done = events(live.http.post("/completion", json={**body, "options": {"num_predict": 1}}))[-1]
    assert rendered["tokens"] == done["prompt_eval_count"]
    long = live.http.post("/apply-template", json={"prompt": "sea " * 5000}).json()
    assert long["tokens"] > live.status()["ContextLength"], "also what does not fit is counted"
    refused = live.http.post("/apply-template", json={"messages": []})
    assert (refused.status_code, refused.json()["error"][:17]) == (400, "messages is empty")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {"content": 7}),
        ("/tokenize", {}),
        ("/detokenize", {"tokens": "abc"}),
        ("/detokenize", {"tokens": [-1]}),
        ("/detokenize", {"tokens": [10**9]}),
        ("/detokenize", {"tokens": [2**80]}),
        ("/detokenize", {"tokens": [True]}),
        ("/embedding", {"content": []}),
        ("/embedding", {"content": ["a", 7]}),
        ("/embedding", {"content": ""}),
        ("/cancel", {"id": 7}),
    ],
)
def test_bad_bodies_are_refused(live: Live, path: str, body: Event) -> None:
    response = live.http.post(path, json=body)
    assert response.status_code == 400
    assert response.json()["error"]


def test_embeddings_are_of_length_one_and_the_same_in_a_list(live: Live) -> None:
    texts = ["harbour", "the boats of the harbour", "海"]
    many = live.http.post("/embedding", json={"content": texts}).json()["embeddings"]
    one = live.http.post("/embedding", json={"content": texts[1]}).json()["embedding"]
    assert sum(x * x for x in one) == pytest.approx(1, abs=1e-5)
    assert many[1] == pytest.approx(one, abs=1e-5)


# -- queue and cancelling


def test_cancelling_by_id_ends_the_stream_with_a_word(live: Live) -> None:
    headers = {"X-Request-Id": "long-one"}
    body = {"prompt": "Why", "options": {"num_predict": 4000}}
    with live.http.stream("POST", "/completion", json=body, headers=headers) as response:
        lines = response.iter_lines()
        next(lines)
        assert live.http.post("/cancel", json={"id": "long-one"}).json() == {"cancelled": True}
        last = [json.loads(line) for line in lines][-1]
    assert last == {"error": "the request was cancelled", "done": True}
    assert live.http.post("/cancel", json={"id": "long-one"}).json() == {"cancelled": False}
    live.wait_until_idle()


def _busy(status: dict[str, Any], active: int, queued: int) -> bool:
    return status["active"] >= active and status["queue"] >= queued


def test_a_full_queue_is_a_503_that_says_when_to_come_back() -> None:
    folder = toy_text("qwen3", max_position_embeddings=1_000_000)
    with Live(folder, "--queue", "1", "--batch", "1") as runner:
        held = []
        # One writes before the next comes to wait: of two at once the second may find the first still in the queue.
        for active, queued in ((1, 0), (1, 1)):
            held.append(runner.begin("Why", options={"num_predict": 900_000}))
            wait_until(lambda: _busy(runner.status(), active, queued), runner.status)  # noqa: B023 - waited for here
        response = runner.http.post("/completion", json={"prompt": "Why"})
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1
        for connection in held:
            connection.close()
        runner.wait_until_idle()
        assert runner.complete("Why", num_predict=1)


def test_a_client_that_leaves_frees_its_place_streaming_or_not(live: Live) -> None:
    for stream in (True, False):
        connection = live.begin("Why", stream=stream, options={"num_predict": 4000})
        wait_until(lambda: live.status()["active"])
        connection.close()
        live.wait_until_idle()


def test_a_body_of_200_megabytes_is_a_413(live: Live) -> None:
    body = b'{"prompt": "' + b"x" * 200_000_000 + b'"}'
    response = live.http.post("/completion", content=body)
    assert response.status_code == 413
    assert "bytes" in response.json()["error"]
    assert live.complete("Why", num_predict=1)


# -- starting and stopping


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "runner", *arguments]


def test_without_model_or_port_it_says_how_it_is_used_and_exits_2() -> None:
    for arguments in (["runner"], ["runner", "--model", "x"], ["runner", "--model", "x", "--port", "x"]):
        done = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2
        assert "usage: diptych" in done.stderr


def test_a_model_that_cannot_be_loaded_is_an_error_on_health_and_the_last_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-architecture"}')
    process = subprocess.Popen(
        command("--model", str(tmp_path), "--port", "0"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    address = f"http://127.0.0.1:{process.stdout.readline().strip()}"
    while (health := httpx2.get(f"{address}/health")).status_code == 503:
        assert health.json()["status"] == "loading"
        assert httpx2.post(f"{address}/completion", json={"prompt": "x"}).status_code in (500, 503)
        time.sleep(0.05)
    assert health.status_code == 500
    assert health.json()["status"] == "error"
    error = health.json()["error"]
    _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert error.split("\n")[0] in log.strip().splitlines()[-1]


def test_a_taken_port_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            command("--model", "x", "--port", port), cwd=ROOT, capture_output=True, text=True
        )
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr.strip().splitlines()[-1]


def test_other_addresses_need_a_key_and_the_key_is_asked_for() -> None:
    done = subprocess.run(
        command("--model", "x", "--port", "0", "--host", "0.0.0.0"), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "--api-key" in done.stderr
    with Live(toy_text("qwen3"), "--api-key", "sesame", key="sesame") as runner:
        assert httpx2.get(f"http://127.0.0.1:{runner.port}/v1/status").status_code == 401
        assert runner.status()["Status"] == 0


def test_asked_to_stop_it_finishes_what_is_in_flight_and_exits_0() -> None:
    with Live(toy_text("qwen3")) as runner:
        answer: list[Event] = []

        def read() -> None:
            with streaming(runner, "Why", num_predict=300) as stream:
                answer.extend(stream)

        reader = threading.Thread(target=read)
        reader.start()
        wait_until(lambda: runner.status()["active"] or not reader.is_alive())
        runner.ask_to_stop()
        reader.join(PATIENCE)
        assert runner.process.wait(PATIENCE) == 0
    assert answer[-1].get("eval_count") == 300


def test_deleting_the_model_ends_the_process() -> None:
    with Live(toy_text("qwen3")) as runner:
        assert runner.http.delete("/v1/models").json() == {"Success": True}
        assert runner.process.wait(PATIENCE) == 0


def test_logs_are_lines_of_json_when_asked() -> None:
    with Live(toy_text("qwen3"), "--log-format", "json") as runner:
        runner.complete("Why", num_predict=3)
        # What the tokenizer's library has to say of that must not stand between the lines.
        assert runner.http.post("/tokenize", json={"content": "one two three " * 4000}).status_code == 200
        runner.ask_to_stop()
        assert runner.process.wait(PATIENCE) == 0
        lines = [json.loads(line) for line in runner.log.splitlines()]
    (request,) = [line for line in lines if line.get("route") == "/completion"]
    assert request["status"] == 200
    assert request["tokens"] == 3
    assert request["took_ms"] > 0
    assert request["id"]


def test_quantized_key_value_caches_write_in_a_batch_too() -> None:
    folder = toy_text("qwen3", head_dim=64)
    with Live(folder, "--kv-bits", "8") as runner:
        assert runner.complete("Why", num_predict=5)[-1]["eval_count"] == 5
    with Live(folder, "--context", "64") as runner:
        assert runner.status()["ContextLength"] == 64
