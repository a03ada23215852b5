"""/v1/responses by the real openai package, against a gateway over toys."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from runner.api.openai.chat_stream import ChoiceDelta
from runner.api.responses.items import Conversation, placed
from runner.api.responses.output import Output
from runner.api.responses.schemas import MessageItem, ReasoningItem
from tests.runner.api.openai.test_chat import LOOK
from tests.runner.api.typed import checked
from tests.runner.gateway.live import Gateway
from tests.runner.pretend import pretend_model
from tests.waiting import PATIENCE

openai = pytest.importorskip("openai", reason="the clients group is not installed")

FLAT: Any = {"type": "function", "strict": True, **LOOK["function"]}


@pytest.fixture
def client(gateway: Gateway) -> Any:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)


def respond(client: Any, **fields: Any) -> Any:
    extra = {"seed": 3, **fields.pop("extra_body", {})}
    request = {"model": "toy", "input": "Why is the sea blue?", "max_output_tokens": 12, **fields}
    return client.responses.create(**request, extra_body=extra)


def test_a_response_says_what_a_chat_says(client: Any) -> None:
    answer = checked(respond(client))
    chat = client.chat.completions.create(
        model="toy",
        messages=[{"role": "user", "content": "Why is the sea blue?"}],
        max_completion_tokens=12,
        seed=3,
    )
    assert answer.output_text == chat.choices[0].message.content
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.usage.output_tokens == 12
    assert answer.usage.input_tokens == chat.usage.prompt_tokens
    assert respond(client, instructions="Be brief.").usage.input_tokens > answer.usage.input_tokens


def test_a_stream_has_every_event_in_its_place(client: Any) -> None:
    events = [checked(event) for event in respond(client, stream=True)]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    names = [event.type for event in events]
    deltas = names.count("response.output_text.delta")
    assert names == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * deltas,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == events[-1].response.output_text == respond(client).output_text


def test_the_packages_own_gathering_of_a_stream_agrees(client: Any, gateway: Gateway) -> None:
    with client.responses.stream(model="toy", input="Why?", max_output_tokens=300, tools=[FLAT], tool_choice="required") as stream:  # fmt: skip
        for _ in stream:
            continue
        (call,) = stream.get_final_response().output
    assert (call.type, call.name, call.status) == ("function_call", "look", "completed")
    assert json.loads(call.arguments)["at"] in ("sea", "land")

    async def main() -> str:
        other = openai.AsyncOpenAI(
            base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE
        )
        return str((await respond(other)).output_text)

    assert asyncio.run(main()) == respond(client).output_text


def test_an_answer_follows_its_schema(client: Any) -> None:
    schema = {"type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"], "additionalProperties": False}  # fmt: skip
    text = {"format": {"type": "json_schema", "name": "harbour", "schema": schema, "strict": True}}
    answer = checked(respond(client, text=text, max_output_tokens=100))
    assert isinstance(json.loads(answer.output_text)["open"], bool)
    assert answer.status == "completed"


def test_a_thought_is_an_item_of_its_own() -> None:
    output = Output()
    said = [
        name
        for piece in (ChoiceDelta(thinking="H"), ChoiceDelta(thinking="m"), ChoiceDelta(content="Yes"))
        for name, _ in output.add(piece)
    ]
    said += [name for name, _ in output.close()]
    assert said.count("response.reasoning_text.delta") == 2
    assert said.index("response.reasoning_text.done") < said.index("response.output_text.delta")
    items = [(type(item), item.content[0].text, item.status) for item in output.items]
    assert items == [(ReasoningItem, "Hm", "completed"), (MessageItem, "Yes", "completed")]


def test_calls_thoughts_and_answers_go_back_as_messages() -> None:
    items: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "Look"}]},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm"}],
        },
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "blue"},
        {"type": "function_call_output", "call_id": "c2", "output": "grey"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Blue."}]},
    ]
    conversation = Conversation("Be brief.")
    conversation.add(placed(items))
    chat = conversation.messages
    assert [message.role for message in chat] == ["system", "user", "assistant", "tool", "tool", "assistant"]
    assert chat[2].reasoning_content == "Hm"
    assert [call["id"] for call in chat[2].tool_calls or []] == ["c1", "c2"]


def test_a_whole_exchange_with_a_tool(client: Any) -> None:
    first = respond(client, tools=[FLAT], tool_choice="required", max_output_tokens=300)
    (call,) = first.output
    items: Any = [
        {"role": "user", "content": "Why is the sea blue?"},
        call.model_dump(exclude_none=True),
        {"type": "function_call_output", "call_id": call.call_id, "output": "blue"},
    ]
    second = respond(client, input=items, tools=[FLAT])
    assert second.output_text
    assert second.usage.input_tokens > first.usage.input_tokens


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True, "store": False}, "store"),
        ({"previous_response_id": "resp_1", "conversation": "conv_1"}, "previous_response_id"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"moderation": {"model": "omni"}}, "moderation"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/y.png"}]}]}, "input[0].content[0].image_url"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].id"),
        ({"input": [{"type": "poem"}]}, "input[0].type"),
        ({"tools": [{"type": "poem"}]}, "tools[0].type"),
        ({"tools": [{"type": "custom", "name": "a", "format": {"type": "grammar", "syntax": "lark"}}]}, "tools[0].format"),
        ({"input": "x " * 9000}, "input"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "poem"}}}}, "text.format"),
        ({"metadata": {"a": "x" * 600}}, "metadata"),
        ({"temperature": 9}, "temperature"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(client: Any, fields: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        respond(client, **fields)
    assert caught.value.param == param


def test_a_runner_that_dies_fails_the_response(tmp_path: Path) -> None:
    model = pretend_model(tmp_path / "a", events=5, kill_at=2)
    with Gateway({"a": model}) as gateway:
        client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0)
        events = list(client.responses.create(model="a", input="x", stream=True))
        error, failed = map(checked, events[-2:])
        assert (error.type, failed.type, failed.response.status) == ("error", "response.failed", "failed")
        assert failed.sequence_number == error.sequence_number + 1 == len(events) - 1
        assert "out of memory, it says" in error.message
        assert "out of memory, it says" in failed.response.error.message
