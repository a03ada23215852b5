"""What has killed other servers: each is a 400 that names the field, and the next request works."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.runner.live import Live
from tests.toys import toy_text


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with Live(toy_text("qwen3"), "--context", "128") as runner:
        yield runner


NAN = float("nan")
USER = {"role": "user", "content": "Hi"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, "prompt"),
    ({}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": ["a", 1.5]}, "prompt"),
    ({"prompt": 7}, "prompt"),
    ({"prompt": True}, "prompt"),
    ({"prompt": "x", "messages": [USER]}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": [7]}, "messages"),
    ({"messages": [{"content": "Hi"}]}, "role"),
    ({"messages": [{"role": "user", "content": 7}]}, "content"),
    ({"messages": [USER, {"role": "user"}]}, "messages[1].content"),
    ({"messages": [{"role": 7, "content": "Hi"}]}, "role"),
    ({"prompt": "x", "options": []}, "options"),
    ({"prompt": "x", "options": {"top_k": -2}}, "top_k"),
    ({"prompt": "x", "options": {"top_k": 1.5}}, "top_k"),
    ({"prompt": "x", "options": {"top_k": True}}, "top_k"),
    ({"prompt": "x", "options": {"top_p": 2}}, "top_p"),
    ({"prompt": "x", "options": {"min_p": -0.1}}, "min_p"),
    ({"prompt": "x", "options": {"stop": 7}}, "stop"),
    ({"prompt": "x", "options": {"speculate": "always"}}, "options.speculate"),
    ({"prompt": "x", "options": {"speculate": 33}}, "options.speculate"),
    ({"prompt": "x", "speculate": True}, "speculate"),
    ({"prompt": "x", "speculate": ["lookup"]}, "speculate"),
    ({"prompt": "x", "prediction": 7}, "prediction"),
    ({"prompt": "x", "options": {"stop": ""}}, "stop"),
    ({"prompt": "x", "options": {"stop": ["a", ""]}}, "stop"),
    ({"prompt": "x", "options": {"stop": ["a", 7]}}, "stop"),
    ({"prompt": "x", "options": {"logit_bias": {"99999": 1.0}}}, "logit_bias"),
    ({"prompt": "x", "priority": 2**31}, "priority"),
    ({"prompt": "x", "priority": 1.5}, "priority"),
    ({"prompt": "x", "options": {"logit_bias": {"-1": 1.0}}}, "logit_bias"),
    ({"prompt": "x", "options": {"logit_bias": {"a": 1.0}}}, "logit_bias"),
    ({"prompt": "x", "options": {"logit_bias": {"5": NAN}}}, "logit_bias"),
    ({"prompt": "x", "options": {"seed": 2**70}}, "seed"),
    ({"prompt": "x", "options": {"seed": "7"}}, "seed"),
    ({"prompt": "x", "options": {"temperature": NAN}}, "temperature"),
    ({"prompt": "x", "options": {"temperature": float("inf")}}, "temperature"),
    ({"prompt": "x", "options": {"temperature": 1e30}}, "temperature"),
    ({"prompt": "x", "options": {"temperature": -0.1}}, "temperature"),
    ({"prompt": "x", "options": {"temperature": True}}, "temperature"),
    ({"prompt": "x", "options": {"temperature": "hot"}}, "temperature"),
    ({"prompt": "x", "options": {"num_predict": 2**70}}, "num_predict"),
    ({"prompt": "x", "options": {"num_predict": False}}, "num_predict"),
    ({"prompt": "x", "options": {"repeat_penalty": 0}}, "repeat_penalty"),
    ({"prompt": "x", "top_logprobs": 21}, "top_logprobs"),
    ({"prompt": "x", "format": "yaml"}, "format"),
    ({"prompt": "x", "format": {"type": "nonsense"}}, "format"),
    ({"prompt": "one two three " * 200}, "prompt"),
]


@pytest.mark.parametrize(("body", "field"), REFUSED, ids=lambda value: json.dumps(value)[:70])
def test_it_is_refused_by_name_and_the_next_request_works(
    live: Live, body: dict[str, Any], field: str
) -> None:
    response = live.http.post("/completion", content=json.dumps(body))
    assert response.status_code == 400, response.text
    assert field in response.json()["error"]
    assert live.complete("Why", num_predict=2)[-1]["eval_count"] == 2


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(live: Live) -> None:
    prompt = "one two three " * 200
    size = len(live.http.post("/tokenize", json={"content": prompt}).json()["tokens"])
    message = live.http.post("/completion", json={"prompt": prompt}).json()["error"]
    assert str(size) in message
    assert "128" in message


def test_an_answer_is_capped_to_what_is_left_of_the_context(live: Live) -> None:
    stream = live.complete("Why not?", num_predict=10_000)
    assert stream[-1]["done_reason"] == 1
    assert stream[-1]["prompt_eval_count"] + stream[-1]["eval_count"] == 128


def test_penalties_that_look_back_further_than_any_text_see_all_of_it(live: Live) -> None:
    options = {"num_predict": 20, "repeat_penalty": 1.3}
    every = [event.get("token") for event in live.complete("Why", **options, repeat_last_n=-1)]
    assert [event.get("token") for event in live.complete("Why", **options, repeat_last_n=2**31 - 1)] == every


def test_a_number_beyond_all_numbers_is_refused_by_its_field(live: Live) -> None:
    response = live.http.post("/completion", content=b'{"prompt": "x", "options": {"temperature": 1e999}}')
    assert response.status_code == 400
    assert response.json()["error"] == "options.temperature: inf is not a finite number"


def test_top_k_above_the_vocabulary_means_all_of_it(live: Live) -> None:
    options = {"num_predict": 20, "temperature": 1.0, "seed": 5}
    every = [event.get("token") for event in live.complete("Why", **options)]
    assert [event.get("token") for event in live.complete("Why", **options, top_k=10**6)] == every


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b"[]",
        b"7",
        b'"text"',
        b"null",
        b'{"prompt":"\\ud800"}',
        b'{"prompt":"\\ud800","a":[NaN]}',
    ],
)
def test_a_body_that_is_no_json_object_is_refused(live: Live, body: bytes) -> None:
    response = live.http.post("/completion", content=body)
    assert response.status_code == 400
    assert "body" in response.json()["error"]
