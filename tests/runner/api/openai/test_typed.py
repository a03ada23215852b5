"""Every kind of answer, whole and streamed, held to the openai package's own types: nothing missing, nothing beyond."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.runner.api.openai.test_chat import ASK, LOOK
from tests.runner.api.typed import BEYOND, checked
from tests.runner.gateway.live import Gateway
from tests.waiting import PATIENCE

openai = pytest.importorskip("openai", reason="the clients group is not installed")

JSON: Any = {"type": "json_object"}
USAGE: Any = {"include_usage": True}


def chat(client: Any, **fields: Any) -> Any:
    request = {"model": "toy", "messages": ASK, "max_completion_tokens": 6, "seed": 3, **fields}
    return client.chat.completions.create(**request)


def draw(client: Any, **fields: Any) -> Any:
    extra = {"steps": 3, "seed": 7}
    return client.images.generate(model="klein", prompt="a boat", size="32x32", extra_body=extra, **fields)


CALLS: dict[str, Callable[[Any], Any]] = {
    "models": lambda client: list(client.models.list()),
    "a model": lambda client: client.models.retrieve("toy"),
    "choices": lambda client: chat(client, n=2, logprobs=True, top_logprobs=2),
    "choices, streamed": lambda client: chat(client, n=2, logprobs=True, top_logprobs=2, stream=True),
    "usage, streamed": lambda client: chat(client, stream=True, stream_options=USAGE),
    "JSON": lambda client: chat(client, response_format=JSON),
    "a call": lambda client: chat(client, tools=[LOOK], tool_choice="required", max_completion_tokens=99),
    "a call, streamed": lambda client: chat(
        client, tools=[LOOK], tool_choice="required", max_completion_tokens=99, stream=True
    ),
    "a text": lambda client: client.completions.create(
        model="toy", prompt=["The", "sea"], n=2, max_tokens=4, logprobs=2
    ),
    "a text, streamed": lambda client: client.completions.create(
        model="toy", prompt="The", max_tokens=4, logprobs=2, stream=True, stream_options=USAGE
    ),
    "vectors": lambda client: client.embeddings.create(model="toy", input=["a", "b"], encoding_format="float"),
    "a response": lambda client: client.responses.create(
        model="toy", input="x", max_output_tokens=4, top_logprobs=2, metadata={"a": "b"}
    ),
    "a response, streamed": lambda client: client.responses.create(
        model="toy", input="x", max_output_tokens=4, top_logprobs=2, stream=True
    ),
    "a called response, streamed": lambda client: client.responses.create(
        model="toy",
        input="x",
        tools=[{"type": "function", "strict": True, **LOOK["function"]}],
        tool_choice="required",
        max_output_tokens=99,
        stream=True,
    ),
    "pictures": lambda client: draw(client, n=2),
    "an address": lambda client: draw(client, response_format="url"),
    "pictures, streamed": lambda client: draw(client, stream=True, partial_images=2),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_an_answer_is_what_its_type_says(gateway: Gateway, name: str) -> None:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)
    actual = CALLS[name](client)
    pieces = list(actual) if isinstance(actual, list | openai.Stream) else [actual]
    assert pieces
    for piece in pieces:
        if name == "a text, streamed":
            for choice in piece.choices:
                # Its type has no null, which stands there until the end.
                choice.finish_reason = choice.finish_reason or "stop"
        checked(piece)


def test_the_pages_list_of_fields_is_read() -> None:
    assert "ChatCompletionMessage.reasoning_content" in BEYOND
