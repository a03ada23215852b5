"""Thoughts and tool calls by the real ollama package, against a model that makes them."""

import asyncio
from typing import Any

import pytest

from runner.api.ollama.schemas import Call
from tests.runner.gateway.live import Gateway
from tests.waiting import PATIENCE

ollama = pytest.importorskip("ollama", reason="the clients group is not installed")

ASK: Any = [{"role": "user", "content": "Why is the sea blue?"}]


def look(at: str, far: bool = False) -> str:
    """Looks somewhere.

    Args:
      at: where to look
      far: whether it is far away
    """
    return f"{at} is blue, {far}"


def wait() -> str:
    """Waits."""
    return "waited"


TOOLS = {"look": look, "wait": wait}


@pytest.fixture
def client(calling: Gateway) -> Any:
    return ollama.Client(host=calling.url, timeout=PATIENCE)


def chat(client: Any, **fields: Any) -> Any:
    return client.chat(**{"model": "caller", "messages": ASK, "tools": [look, wait], **fields})


def checked(message: Any) -> None:
    """The whole of what the model says."""
    assert message.thinking == "The sea, then."
    assert message.content.strip() == "I look."
    first, second = message.tool_calls
    assert (first.function.name, dict(first.function.arguments)) == ("look", {"at": "sea", "far": True})
    assert (second.function.name, dict(second.function.arguments)) == ("wait", {})


def gathered(lines: list[Any]) -> Any:
    """A stream's lines as one message, as programs put them together."""
    return ollama.Message(
        role="assistant",
        content="".join(line.message.content for line in lines),
        thinking="".join(line.message.thinking or "" for line in lines),
        tool_calls=[call for line in lines for call in line.message.tool_calls or []],
    )


def test_calls_arrive_apart_from_what_is_said_and_thought(client: Any) -> None:
    answer = chat(client)
    checked(answer.message)
    assert (answer.done, answer.done_reason) == (True, "stop")


def test_a_stream_brings_each_call_once_and_whole(client: Any) -> None:
    lines = list(chat(client, stream=True))
    checked(gathered(lines))
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1].message.content == ""


def test_the_asynchronous_client_gets_the_same(calling: Gateway) -> None:
    async def both() -> tuple[Any, list[Any]]:
        client = ollama.AsyncClient(host=calling.url, timeout=PATIENCE)
        return await chat(client), [line async for line in await chat(client, stream=True)]

    whole, lines = asyncio.run(both())
    checked(whole.message)
    checked(gathered(lines))


def test_calls_have_ids_and_places_as_ollamas_own(calling: Gateway) -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    body = {"model": "caller", "messages": ASK, "tools": tools, "stream": False}
    calls = calling.http.post("/api/chat", json=body).json()["message"]["tool_calls"]
    assert [call["function"]["index"] for call in calls] == [0, 1]
    assert len({call["id"] for call in calls}) == 2
    assert all(call["id"].startswith("call_") for call in calls)
    assert all(call.keys() == set(Call.__struct_fields__) for call in calls), "as the OpenAPI document says"


def test_what_tools_answer_goes_back_to_the_model(client: Any) -> None:
    """The loop of every agent: the message as it came, and an answer to each call."""
    answer = chat(client)
    messages = [*ASK, answer.message]
    for call in answer.message.tool_calls:
        said = TOOLS[call.function.name](**call.function.arguments)
        messages.append({"role": "tool", "tool_name": call.function.name, "content": said})
    again = chat(client, messages=messages)
    checked(again.message)
    assert again.prompt_eval_count > answer.prompt_eval_count


def test_without_tools_a_call_is_but_text(client: Any) -> None:
    message = chat(client, tools=None).message
    assert not message.tool_calls
    assert message.thinking == "The sea, then."
    assert "look" in message.content


def test_a_prompt_is_answered_with_its_thought_apart(client: Any) -> None:
    answer = client.generate("caller", "Why?")
    assert answer.thinking == "The sea, then."
    assert answer.response.startswith("I look.")
    lines = list(client.generate("caller", "Why?", stream=True, think=True))
    assert "".join(line.thinking or "" for line in lines) == answer.thinking
    assert "".join(line.response for line in lines) == answer.response
    assert list(client.generate("caller", "Why?", think="low"))
