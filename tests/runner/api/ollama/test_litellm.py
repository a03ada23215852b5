"""litellm, through its ollama/ and ollama_chat/ routes."""

import json
import os
from typing import Any

import pytest

from tests.optional import needed
from tests.runner.api.openai.test_chat import ASK, LOOK
from tests.runner.gateway.live import Gateway
from tests.waiting import PATIENCE

# Its table of prices is in the package; otherwise it is fetched.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
litellm = needed("litellm", reason="the clients group is not installed")

ROUTES = ("ollama", "ollama_chat")
SCHEMA = {"type": "object", "properties": {"boats": {"enum": [1, 17]}}, "required": ["boats"], "additionalProperties": False}  # fmt: skip


def chat(gateway: Gateway, route: str, model: str = "toy", **fields: Any) -> Any:
    request = {"messages": ASK, "max_tokens": 8, "seed": 3, "timeout": 120, **fields}
    return litellm.completion(model=f"{route}/{model}", api_base=gateway.url, **request)


@pytest.mark.parametrize("route", ROUTES)
def test_a_chat_is_answered_and_streamed(gateway: Gateway, route: str) -> None:
    answer = chat(gateway, route)
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens == 8
    chunks = list(chat(gateway, route, stream=True))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == answer.choices[0].message.content


@pytest.mark.parametrize("route", ROUTES)
def test_what_openais_clients_send_by_default_is_taken(gateway: Gateway, route: str) -> None:
    fields = {"temperature": 0.5, "top_p": 1, "frequency_penalty": 0, "stop": ["###"]}
    assert chat(gateway, route, **fields).choices[0].message.content


@pytest.mark.parametrize("route", ROUTES)
def test_an_answer_follows_its_schema(gateway: Gateway, route: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "harbour", "schema": SCHEMA}}
    answer = chat(gateway, route, response_format=form, max_tokens=100)
    assert json.loads(answer.choices[0].message.content)["boats"] in (1, 17)


@pytest.mark.parametrize("stream", [False, True])
def test_tools_are_called(calling: Gateway, stream: bool) -> None:
    answer = chat(calling, "ollama_chat", "caller", tools=[LOOK], max_tokens=100, stream=stream)
    if stream:
        answer = litellm.stream_chunk_builder(list(answer))
    message = answer.choices[0].message
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]
    assert calls == [("look", {"at": "sea", "far": True}), ("wait", {})]
    assert message.reasoning_content == "The sea, then."


def test_texts_become_vectors(gateway: Gateway) -> None:
    actual = litellm.embedding(
        model="ollama/toy", input=["The sea", "The land"], api_base=gateway.url, timeout=PATIENCE
    )
    assert [len(one["embedding"]) for one in actual.data] == [64, 64]


@pytest.mark.parametrize("route", ROUTES)
def test_an_unknown_model_is_an_error_that_says_so(gateway: Gateway, route: str) -> None:
    with pytest.raises(litellm.exceptions.APIConnectionError, match="nobody"):
        chat(gateway, route, "nobody")
