"""litellm, through its openai/ route, against a gateway over toys."""

import base64
import io
import json
import os
from typing import Any

import pytest
from PIL import Image

from tests.optional import needed
from tests.runner.api.openai.test_chat import ASK, LOOK
from tests.runner.gateway.live import Gateway

# Its table of prices is in the package; otherwise it is fetched.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
litellm = needed("litellm", reason="the clients group is not installed")


@pytest.fixture
def place(gateway: Gateway) -> dict[str, Any]:
    return {"api_base": f"{gateway.url}/v1", "api_key": "none", "timeout": 120}


def chat(place: dict[str, Any], **fields: Any) -> Any:
    request = {"model": "openai/toy", "messages": ASK, "max_tokens": 8, "seed": 3, **fields}
    return litellm.completion(**request, **place)


def test_a_chat_is_answered_and_streamed(place: dict[str, Any]) -> None:
    answer = chat(place)
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens == 8
    chunks = list(chat(place, stream=True, stream_options={"include_usage": True}))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == answer.choices[0].message.content
    assert litellm.stream_chunk_builder(chunks).usage.completion_tokens == 8


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called(place: dict[str, Any], stream: bool) -> None:
    fields: Any = {"tools": [LOOK], "tool_choice": "required", "max_tokens": 200}
    answer = chat(place, stream=stream, **fields)
    if stream:
        answer = litellm.stream_chunk_builder(list(answer))
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "look"
    assert json.loads(call.function.arguments)["at"] in ("sea", "land")
    assert answer.choices[0].finish_reason == "tool_calls"


def test_texts_become_vectors(place: dict[str, Any]) -> None:
    actual = litellm.embedding(model="openai/toy", input=["The sea", "The land"], **place)
    assert [len(one["embedding"]) for one in actual.data] == [64, 64]


def test_a_picture_is_drawn(place: dict[str, Any]) -> None:
    extra = {"steps": 2, "seed": 7}
    actual = litellm.image_generation(
        model="openai/klein", prompt="a boat", size="64x48", extra_body=extra, **place
    )
    assert Image.open(io.BytesIO(base64.b64decode(actual.data[0].b64_json))).size == (64, 48)


def test_what_is_wrong_keeps_its_kind(place: dict[str, Any]) -> None:
    with pytest.raises(litellm.NotFoundError):
        chat(place, model="openai/nobody")
    with pytest.raises(litellm.BadRequestError, match="temperature"):
        chat(place, temperature=9)
    with pytest.raises(litellm.ContextWindowExceededError):
        chat(place, messages=[{"role": "user", "content": "sea " * 20000}])
