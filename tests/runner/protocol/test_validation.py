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
        (ChatRequest, {"model": "x", "messages": MESSAGES, "n": 0}, "n: 0 is not allowed; expected int >= 1"),
        (ImageCompletionRequest, {"format": "gif"}, 'format: "gif" is not allowed; one of "jpeg", "png", "webp" is needed'),
        (ImageCompletionRequest, {"quality": 3}, "quality: 3 is not allowed; expected str | null, got int"),
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
