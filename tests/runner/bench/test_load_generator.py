"""What the load generator reads out of the bytes that arrived."""

import json
from typing import Any

from runner.bench.load_generator import read_response

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(event: dict[str, Any], prefix: bytes = b"") -> bytes:
    line = prefix + json.dumps(event).encode() + b"\n"
    return b"%x\r\n%s\r\n" % (len(line), line)


def test_events_are_counted_and_timed() -> None:
    last = chunk({"done": True, "eval_count": 2})
    arrived = [(1.0, HEAD), (1.5, chunk({"content": "a"})), (1.7, chunk({"content": "b"})), (1.8, last)]
    answer = read_response(1.0, arrived, None)
    assert (answer.failure, answer.tokens, answer.first) == (None, 2, 0.5)
    assert [round(gap, 3) for gap in answer.gaps] == [0.2]


def test_server_sent_events_tell_their_usage() -> None:
    said = chunk({"choices": [{"text": "a"}]}, b"data: ")
    last = chunk({"choices": [], "usage": {"completion_tokens": 5}}, b"data: ")
    answer = read_response(1.0, [(1.2, HEAD + said), (1.4, last)], None)
    assert (answer.failure, answer.tokens) == (None, 5)


def test_a_model_that_says_nothing_has_answered() -> None:
    answer = read_response(1.0, [(1.5, HEAD + chunk({"done": True, "eval_count": 0}))], None)
    assert (answer.failure, answer.tokens, answer.first) == (None, 0, 0.5)


def test_a_stream_that_is_cut_or_tells_an_error_is_a_failure() -> None:
    cut = read_response(1.0, [(1.5, HEAD + chunk({"content": "a"}))], None)
    assert cut.failure == "the stream ended without its last event"
    told = read_response(1.0, [(1.5, HEAD + chunk({"error": "no memory", "done": True}))], None)
    assert told.failure == "no memory"


def test_another_status_is_a_failure_that_shows_the_answer() -> None:
    answer = read_response(1.0, [(1.5, b"HTTP/1.1 503 Busy\r\n\r\n")], None)
    assert answer.failure is not None
    assert "503" in answer.failure
