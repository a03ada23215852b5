"""What is said of a request that is wrong."""

from typing import Any

import pytest

from runner.api.openai.chat import ChatRequest
from runner.errors import BadRequest
from runner.protocol.image import ImageCompletionRequest
from runner.protocol.text import parse

MESSAGES = [{"role": "user"}]


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (ChatRequest, {"messages": MESSAGES}, "model is missing"),
        (ChatRequest, {"model": "x", "messages": [{}]}, "messages[0].role is missing"),
        (ChatRequest, {"model": "x", "messages": MESSAGES, "n": 0}, "n: 0 is not allowed; an integer of at least 1 is needed"),
        (ImageCompletionRequest, {"format": "gif"}, 'format: "gif" is not allowed; one of "jpeg", "png", "webp" is needed'),
        (ImageCompletionRequest, {"quality": 3}, "quality: 3 is not allowed; text or null is needed"),
        (ChatRequest, {"model": "", "messages": MESSAGES}, 'model: "" is not allowed; text of at least 1 character is needed'),
        (ChatRequest, {"model": "x", "messages": []}, "messages: an empty list is not allowed; a list of at least 1 item is needed"),
        (ChatRequest, {"model": "x", "messages": MESSAGES, "top_p": 2}, "top_p: 2 is not allowed; a number of at most 1 is needed"),
        (ChatRequest, {"model": "x", "messages": MESSAGES, "stream": 1}, "stream: 1 is not allowed; true, false or null is needed"),
        (ChatRequest, {"model": "x", "messages": [3]}, "messages[0]: 3 is not allowed; an object is needed"),
        (
            ChatRequest,
            {"model": "x", "messages": MESSAGES, "response_format": {"type": "xml"}},
            'response_format.type: "xml" is not allowed; one of "json_object", "json_schema", "text" is needed',
        ),
    ],
)  # fmt: skip
def test_the_field_what_stood_there_and_what_is_allowed(kind: Any, value: Any, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(kind, value)
    assert caught.value.message == words
