"""Calls that must be made: held to their tools' schemas, by models whose templates know tools and by others."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

import httpx2
import pytest
from msgspec import to_builtins

from runner.api.ollama.requests import Chat as OllamaChat
from runner.api.openai.chat import Chat as OpenAIChat
from runner.api.openai.chat_stream import ChoiceReader
from runner.engine.text.chat_prompts import render_chat
from runner.engine.text.output_parser import ParsedDelta
from runner.engine.text.required_calls import RequiredCall, call_schema
from runner.engine.text.tool_prompts import NOTE, OFFER
from runner.errors import BadRequest
from runner.protocol.events import TextEvent, decode_event
from runner.protocol.text import encode
from runner.protocol.text_rules import parse_text
from tests.runner.engine.text.test_chat_prompts import SMOLLM2, loaded
from tests.runner.live import Event, events, in_process
from tests.toys import toy_text

USER = {"role": "user", "content": "How is the sea?"}
AT = {"type": "object", "properties": {"at": {"enum": ["sea", "land"]}}, "required": ["at"]}
LOOK = {"type": "function", "function": {"name": "look", "description": "See.", "parameters": AT}}
WAIT = {"type": "function", "function": {"name": "wait"}}
BY_NAME = {"type": "function", "function": {"name": "look"}}
CALLED = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sea"}'}}
OPTIONS = {"num_predict": 200, "temperature": 1.0, "seed": 3}


def rendered(template: str | None, messages: list[Any], family: str = "llama", **fields: Any) -> str:
    return render_chat(loaded(family, template), parse_text({"messages": messages, **fields})).text


def test_tools_that_may_be_called_are_offered_and_earlier_calls_look_as_new_ones_should() -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [CALLED]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "blue"}
    prompt = rendered(SMOLLM2, [USER, called, result], tools=[LOOK])
    assert prompt.startswith("<|im_start|>system\nThese are the tools that you can call")
    assert OFFER in prompt
    assert '\n<tool_call>{"name": "look", "arguments": {"at": "sea"}}</tool_call><|im_end|>' in prompt


def test_arguments_of_an_earlier_call_that_are_not_json_are_passed_on_as_text() -> None:
    function = {"name": "look", "arguments": "at sea"}
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": function}]}
    assert '{"name": "look", "arguments": "at sea"}' in rendered(SMOLLM2, [USER, called, USER])
    assert '"arguments": at sea}' in rendered(None, [USER, called, USER], "qwen3", tools=[LOOK])


REQUIRED: dict[str, Any] = {"tools": [LOOK, WAIT], "tool_choice": "required"}


def test_a_template_without_tools_has_them_in_a_system_message() -> None:
    prompt = rendered(SMOLLM2, [USER], **REQUIRED)
    assert prompt.startswith("<|im_start|>system\nThese are the tools that you can call")
    for tool in (LOOK, WAIT):
        assert json.dumps(tool["function"]) in prompt
    assert prompt.endswith("<|im_start|>user\nHow is the sea?<|im_end|>\n<|im_start|>assistant\n")


def test_what_the_system_message_says_already_stays_in_front_of_the_tools() -> None:
    prompt = rendered(SMOLLM2, [{"role": "system", "content": "Be brief."}, USER], **REQUIRED)
    assert prompt.startswith("<|im_start|>system\nBe brief.\n\nThese are the tools")
    assert prompt.count("system\n") == 1


def test_a_template_without_a_system_has_the_tools_in_the_users_message() -> None:
    prompt = rendered(None, [USER], "mistral", **REQUIRED)
    assert prompt.startswith("<s>[INST] These are the tools")
    assert prompt.endswith("\n\nHow is the sea? [/INST]")


def test_a_template_that_knows_tools_writes_them_itself() -> None:
    prompt = rendered(None, [USER], "qwen3", **REQUIRED)
    assert "Tools, one JSON object a line" in prompt
    assert "These are the tools" not in prompt


def test_calls_and_results_reach_a_template_that_knows_none() -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [CALLED, {**CALLED, "id": "c2"}]}
    results = [
        {"role": "tool", "tool_call_id": id, "content": what} for id, what in (("c1", "blue"), ("c2", "wet"))
    ]
    prompt = rendered(SMOLLM2, [USER, called, *results])
    call = '{"name": "look", "arguments": {"at": "sea"}}'
    assert f"<|im_start|>assistant\n{call}\n{call}<|im_end|>" in prompt
    assert "<|im_start|>user\nlook returned: blue\nlook returned: wet<|im_end|>" in prompt


def test_a_call_that_was_cut_short_is_content() -> None:
    call = RequiredCall()
    assert not call.push('{"name": "look", "argu').content
    assert call.finish() == ParsedDelta('{"name": "look", "argu')


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tool_choice": "required"}, "tool_choice: a call is required"),
        ({"tool_choice": "required", "tools": []}, "tool_choice: a call is required"),
        ({**REQUIRED, "format": "json"}, "format: it cannot be combined with a required tool call"),
        ({"tool_choice": "perhaps", "tools": [LOOK]}, 'tool_choice: "perhaps" is not allowed'),
    ],
)
def test_a_call_that_cannot_be_required_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_text({"messages": [USER], **fields})
    assert caught.value.message.startswith(words)


def test_schemas_of_several_tools_keep_their_own_references() -> None:
    tree = {"$ref": "#/$defs/Tree", "$defs": {"Tree": {"properties": {"left": {"$ref": "#/$defs/Tree"}}}}}
    tools = [{"type": "function", "function": {"name": name, "parameters": tree}} for name in ("a", "b")]
    schema = call_schema(tools)
    second = schema["$defs"]["tool1"]
    assert second["$ref"] == "#/$defs/tool1/$defs/Tree"
    assert second["$defs"]["Tree"]["properties"]["left"]["$ref"] == "#/$defs/tool1/$defs/Tree"
    assert [one["properties"]["name"]["const"] for one in schema["anyOf"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("more", "closed"),
    [
        ({}, False),
        ({"additionalProperties": True}, True),
        ({"additionalProperties": {"type": "string"}}, {"type": "string"}),
        ({"allOf": [{"properties": {"far": {"type": "boolean"}}}]}, None),
    ],
)
def test_arguments_are_those_that_the_tool_names_unless_it_says_otherwise(
    more: dict[str, Any], closed: Any
) -> None:
    schema = call_schema([{"function": {"name": "look", "parameters": AT | more}}])
    assert schema["$defs"]["tool0"].get("additionalProperties") == closed


def with_runner(family: str, work: Callable[[httpx2.AsyncClient], Any]) -> None:
    async def run() -> None:
        async with in_process(toy_text(family)) as client:
            await work(client)

    asyncio.run(run())


async def ask(client: httpx2.AsyncClient, body: dict[str, Any]) -> list[Event]:
    return events(await client.post("/completion", json=body))


def calls_of(stream: list[Event]) -> list[dict[str, Any]]:
    assert not any(event.get("content") for event in stream)
    return [call for event in stream for call in event.get("tool_calls", [])]


# gemma3's toy and mistral's know no tools, qwen3's does.
@pytest.mark.parametrize("family", ["gemma3", "mistral", "qwen3"])
def test_a_required_call_is_made_by_any_model_and_in_every_api(family: str) -> None:
    async def check(client: httpx2.AsyncClient) -> None:
        body = {"messages": [USER], "options": OPTIONS, "split": True, **REQUIRED}
        (call,) = calls_of(await ask(client, body))
        assert call["name"] in ("look", "wait")

        chat = {"model": "toy", "messages": [USER], "tools": [LOOK, WAIT], "tool_choice": BY_NAME}
        openai = OpenAIChat.read(encode({**chat, "max_tokens": 200, "seed": 3}))
        reader = ChoiceReader(openai)
        answer = await ask(client, to_builtins(openai.engine_requests()[0]))
        pieces = [reader.read(cast(TextEvent, decode_event(encode(event)))) for event in answer]
        (made,) = [call for piece in pieces for call in piece.calls]
        assert made.function.name == "look"
        assert json.loads(made.function.arguments)["at"] in ("sea", "land")
        assert pieces[-1].finish == "tool_calls"

        ollama = OllamaChat(encode({**chat, "options": {"num_predict": 200, "seed": 3}})).text()
        (call,) = calls_of(await ask(client, to_builtins(ollama)))
        assert call["name"] == "look"
        assert call["arguments"]["at"] in ("sea", "land")

    with_runner(family, check)


def test_tools_are_described_to_a_model_that_knows_none_which_is_told_in_a_warning() -> None:
    async def check(client: httpx2.AsyncClient) -> None:
        body: dict[str, Any] = {"messages": [USER], "options": {"num_predict": 5}}
        plain = await ask(client, body)
        done = (await ask(client, {**body, "tools": [LOOK], "split": True}))[-1]
        assert done["prompt_eval_count"] > plain[-1]["prompt_eval_count"]
        assert done["warnings"] == [NOTE]
        unheld = {"function": {"name": "wait", "parameters": {"not": {}}}}
        _, warning = (await ask(client, {**body, "tools": [LOOK, unheld]}))[-1]["warnings"]
        assert warning.startswith(
            "tools: the arguments of calls are not held to their schemas: Unimplemented"
        )

    with_runner("gemma3", check)


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ({"type": "function"}, "tools[0].function is missing"),
        ({"function": {"name": ""}}, "tools[0].function.name is missing"),
        ({"function": {"name": "x", "parameters": [1]}}, "tools[0].function.parameters: "),
        ({"function": {"name": "x", "parameters": {"type": "nonsense"}}}, "tools: "),
    ],
)
def test_tools_that_hold_no_schema_are_refused_by_name(tool: dict[str, Any], words: str) -> None:
    async def check(client: httpx2.AsyncClient) -> None:
        body = {"messages": [USER], "tools": [tool], "tool_choice": "required", "split": True}
        refused = await client.post("/completion", json=body)
        assert refused.status_code == 400
        assert refused.json()["error"].startswith(words)

    with_runner("gemma3", check)
