"""What is told of a dead runner's log."""

import json

import pytest

from runner.logs import REQUEST_FAILED
from runner.process.last_error import MAX_ERROR_BYTES, LastError


def heard(*lines: str) -> str:
    words = LastError()
    for line in lines:
        words.feed(line)
    return words.error


ERROR = "12:00:00.000 error   the weights are damaged"
ACCESS = "12:00:01.000 info    POST /completion 200 90 ms 7 tokens id=somebody-elses"


def test_the_last_error_is_told_and_no_line_of_a_request() -> None:
    assert heard(ERROR, ACCESS, "12:00:02.000 warning it is late") == "the weights are damaged"
    assert heard(ACCESS) == ""


def test_what_has_no_level_is_told_too() -> None:
    assert heard(ACCESS, "terminate called after throwing an instance of 'std::bad_alloc'", "").startswith(
        "terminate called"
    )


def test_a_traceback_is_told_by_its_last_line() -> None:
    traceback = [
        "Traceback (most recent call last):",
        '  File "x.py", line 1',
        "    f()",
        "MemoryError: 3 GiB",
    ]
    assert heard(ERROR, *traceback, ACCESS) == "MemoryError: 3 GiB"


def test_a_failure_of_one_request_is_its_own_affair() -> None:
    failed = f"12:00:00.000 error   {REQUEST_FAILED}"
    assert heard(failed, "Traceback (most recent call last):", "KeyError: 'a prompt'", ACCESS) == ""
    assert heard(failed, "KeyError: 'a prompt'", ACCESS, "Bus error") == "Bus error"


@pytest.mark.parametrize(("level", "text"), [("info", ""), ("error", "no memory")])
def test_json_lines_have_levels_too(level: str, text: str) -> None:
    assert heard(json.dumps({"level": level, "message": "no memory", "id": "somebody-elses"})) == text


def test_a_line_in_braces_that_is_not_a_record_is_told_as_it_is() -> None:
    assert [heard(line) for line in ("{", '{"level": 3}', "{" * 100_000)] == [
        "{",
        '{"level": 3}',
        "{" * MAX_ERROR_BYTES,
    ]
