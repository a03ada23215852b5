"""The events of a completion, decoded from the lines that runners write."""

import base64

import pytest
from msgspec import Raw, Struct

from runner.errors import RunnerFailed
from runner.protocol.events import decode_event
from runner.protocol.image import ImageChunk, ImageDone, ImageStarted, ImageStep, from_base64, to_base64
from runner.protocol.text import CallDelta, Failed, Logprob, LogprobAlternative, TextChunk, TextDone, line

PNG = bytes(range(256))
DELTA = CallDelta(0, "wait", "{}")
LOGPROB = Logprob("a", -0.5, [97], 3, [LogprobAlternative("b", -1.5, [98], 4)])


@pytest.mark.parametrize(
    "event",
    [
        TextChunk("", 0),
        TextChunk("The sea", 17, [LOGPROB], "Hm", [{"name": "look", "arguments": {"at": "sea"}}]),
        TextDone(1, "length", 3, 40, 5, 60, 0),
        TextDone(0, "stop", 3, 40, 5, 60, 2, "end", "thought", [{"name": "wait"}], [DELTA], ["careful"]),
        ImageStarted(4),
        ImageStep(0, 4),
        ImageStep(2, 4, to_base64(PNG)),
        ImageChunk(to_base64(PNG), 1),
        ImageDone(7, 64, 32, 4, 1, 2, 3, 4, 5, "png"),
        ImageDone(7, 64, 32, 4, 1, 2, 3, 4, 5, "webp", to_base64(PNG), ["careful"]),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_is_read_as_the_type_that_it_was_written_from(event: Struct) -> None:
    decoded = decode_event(line(event))
    assert type(decoded) is type(event)
    assert line(decoded) == line(event)


def test_the_order_of_fields_means_nothing_and_unknown_ones_are_ignored() -> None:
    assert decode_event(b'{"later": [1], "token": 4, "content": "x"}') == TextChunk("x", 4)
    assert decode_event(b'{ "total": 4, "more": {}, "step": 1 }') == ImageStep(1, 4)


def test_a_picture_is_kept_as_it_was_written_until_it_is_needed() -> None:
    step = decode_event(line(ImageStep(2, 4, to_base64(PNG))))
    assert isinstance(step, ImageStep)
    assert isinstance(step.preview, Raw)
    assert bytes(step.preview) == b'"' + base64.b64encode(PNG) + b'"'
    assert from_base64(step.preview) == PNG


def test_a_failure_is_raised_in_its_own_words() -> None:
    with pytest.raises(RunnerFailed, match=r"^out of memory$"):
        decode_event(line(Failed("out of memory")))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"nonsense", "malformed"),
        (b"[1]", "object"),
        (b"{}", "total"),
        (b'{"done": true, "done_reason": 0}', "stop_reason"),
        (b'{"content": "x", "token": "y"}', "token"),
        (b'{"content": "\xff", "token": 1}', "UTF-8"),
    ],
)
def test_what_is_not_an_event_is_a_runner_that_failed(raw: bytes, words: str) -> None:
    with pytest.raises(RunnerFailed, match=r"^the runner sent a line that is not an event .*" + words):
        decode_event(raw)
