"""Tools by the real openai package: answers that may be calls, calls while they are written, calls that are cut."""

import json
from typing import Any

import pytest

from tests.runner.api.openai.test_chat import ASK, LOOK, WAIT, chat
from tests.runner.api.typed import checked
from tests.runner.gateway.live import Gateway
from tests.waiting import PATIENCE

openai = pytest.importorskip("openai", reason="the clients group is not installed")

BOATS = {
    "type": "object",
    "properties": {"boats": {"enum": [1, 17]}},
    "required": ["boats"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "boats", "schema": BOATS, "strict": True}}


@pytest.fixture
def client(gateway: Gateway) -> Any:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)


@pytest.fixture
def saying(calling: Gateway) -> Any:
    return openai.OpenAI(base_url=f"{calling.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)


def pieces(client: Any, **fields: Any) -> tuple[list[Any], list[Any]]:
    """The chunks of a stream, and the deltas of its calls."""
    chunks = [checked(chunk) for chunk in chat(client, stream=True, **fields)]
    return chunks, [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]


def test_an_answer_follows_its_schema_beside_tools(client: Any) -> None:
    for model in ("toy", "plain"):
        fields: Any = {"tools": [LOOK, WAIT], "response_format": FORMAT, "max_completion_tokens": 200}
        (choice,) = checked(chat(client, model=model, **fields)).choices
        assert choice.message.tool_calls is None
        assert json.loads(choice.message.content)["boats"] in (1, 17)


def test_a_schema_leaves_room_for_calls(saying: Any) -> None:
    for model in ("caller", "told"):
        fields: Any = {"tools": [LOOK, WAIT], "response_format": FORMAT, "temperature": 0}
        bias = {"logit_bias": {str(first_token(saying, model)): 100}, "max_completion_tokens": 60}
        (choice,) = checked(chat(saying, model=model, **fields, **bias)).choices
        assert choice.message.tool_calls[0].function.name == "look"
        assert not choice.message.content


def test_objects_end_after_what_their_schema_names(client: Any) -> None:
    schema = {"type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"]}
    format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = checked(chat(client, response_format=format, max_completion_tokens=200))
    assert json.loads(answer.choices[0].message.content).keys() == {"open"}
    assert "additionalProperties: true" in answer.warnings[0]


def first_token(client: Any, model: str) -> int:
    """Of a call."""
    root = str(client.base_url).removesuffix("v1/")
    tokens = client.post(f"{root}tokenize", cast_to=object, body={"model": model, "content": "<tool_call>"})
    return int(tokens["tokens"][0])


def test_tools_are_offered_to_a_model_whose_template_has_none(saying: Any) -> None:
    answer = checked(chat(saying, model="told", tools=[LOOK, WAIT]))
    (choice,) = answer.choices
    (call,) = choice.message.tool_calls
    assert (choice.message.content, choice.finish_reason) == ("I look.", "tool_calls")
    assert (call.function.name, json.loads(call.function.arguments)) == ("look", {"at": "sea", "far": True})
    assert "described in a message" in answer.warnings[0]
    chunks, _ = pieces(saying, model="told", tools=[LOOK, WAIT])
    assert chunks[-1].warnings == answer.warnings


def test_the_arguments_of_a_call_are_streamed_while_they_are_written(saying: Any) -> None:
    chunks, deltas = pieces(saying, model="told", tools=[LOOK])
    first, *others = deltas
    assert (first.index, first.type, first.function.name) == (0, "function", "look")
    assert first.id.startswith("call_")
    assert len(others) > 1
    assert {(other.index, other.id, other.function.name) for other in others} == {(0, None, None)}
    arguments = "".join(delta.function.arguments for delta in deltas)
    assert json.loads(arguments) == {"at": "sea", "far": True}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_several_calls_are_streamed_each_by_its_place(saying: Any) -> None:
    whole = chat(saying, model="caller", tools=[LOOK, WAIT], max_completion_tokens=60).choices[0].message
    _, deltas = pieces(saying, model="caller", tools=[LOOK, WAIT], max_completion_tokens=60)
    for index, call in enumerate(whole.tool_calls):
        own = [delta for delta in deltas if delta.index == index]
        assert (own[0].function.name, [delta.id for delta in own[1:]]) == (
            call.function.name,
            [None] * len(own[1:]),
        )
        assert json.loads("".join(delta.function.arguments for delta in own)) == json.loads(
            call.function.arguments
        )
    assert len(whole.tool_calls) == 2


def test_a_call_that_is_cut_keeps_what_was_written(saying: Any, client: Any) -> None:
    fields: Any = {"model": "told", "tools": [LOOK], "max_completion_tokens": 4}
    (choice,) = checked(chat(saying, **fields)).choices
    (call,) = choice.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("look", '{"at": "sea')
    assert choice.finish_reason == "length"
    _, deltas = pieces(saying, **fields)
    assert "".join(delta.function.arguments for delta in deltas) == call.function.arguments
    cut = chat(client, tools=[LOOK], tool_choice="required", max_completion_tokens=3).choices[0]
    assert cut.message.content
    assert cut.finish_reason == "length"


def test_earlier_calls_that_were_cut_go_back_to_the_model(saying: Any) -> None:
    function = {"name": "look", "arguments": '{"at": "sea'}
    called = {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": function}]}
    for model in ("caller", "told"):
        assert chat(saying, model=model, messages=[*ASK, called, *ASK], tools=[LOOK]).usage.prompt_tokens


def test_tools_that_other_servers_run_are_left_out_which_a_warning_says(client: Any) -> None:
    namespace = {"type": "namespace", "name": "crm", "tools": [LOOK, {"type": "web_search"}]}
    tools = [LOOK, {"type": "web_search_preview"}, namespace]
    answer = checked(chat(client, tools=tools))
    left_out = [warning.split(" ")[0] for warning in answer.warnings]
    assert left_out == ["tools[1]:", "tools[2].tools[1]:"]
    assert answer.usage.prompt_tokens > chat(client, tools=[LOOK]).usage.prompt_tokens
    nothing = checked(chat(client, tools=[{"type": "mcp"}], tool_choice="required"))
    assert "tool_choice: required has no effect" in nothing.warnings[1]


def test_a_custom_tool_is_called_with_text(saying: Any, client: Any) -> None:
    look = {"type": "custom", "custom": {"name": "look", "description": "Looks somewhere"}}
    fields: Any = {"model": "caller", "tools": [look, WAIT], "max_completion_tokens": 60}
    first, second = checked(chat(saying, **fields)).choices[0].message.tool_calls
    assert (first.type, first.custom.name, first.custom.input) == (
        "custom",
        "look",
        '{"at": "sea", "far": true}',
    )
    assert (second.type, second.function.name) == ("function", "wait")
    chunks = chat(saying, stream=True, **fields)  # whose type has no custom tools
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [delta.type for delta in deltas if delta.type] == ["custom", "function"]
    inputs = [delta.custom["input"] for delta in deltas if getattr(delta, "custom", None)]
    assert "".join(inputs) == first.custom.input
    result = {"role": "tool", "tool_call_id": first.id, "content": "blue"}
    called = {"role": "assistant", "tool_calls": [first.model_dump()]}
    again = chat(saying, **{**fields, "messages": [*ASK, called, result]})
    assert again.usage.prompt_tokens > chat(saying, **fields).usage.prompt_tokens
    pattern = {"type": "grammar", "grammar": {"syntax": "regex", "definition": "[ab]{2}"}}
    held = {"type": "custom", "custom": {"name": "look", "format": pattern}}
    choice = {"type": "custom", "custom": {"name": "look"}}
    (call,) = (
        checked(chat(client, tools=[held], tool_choice=choice, max_completion_tokens=200))
        .choices[0]
        .message.tool_calls
    )
    assert set(call.custom.input) <= {"a", "b"}
    assert len(call.custom.input) == 2
