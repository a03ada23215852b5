"""Tools of the Responses API by the real openai package: what is called, flattened, left out, passed on as text."""

import json
import re
from typing import Any

import pytest

from runner.api.openai.chat_stream import ChoiceDelta
from runner.api.openai.schemas import CallDelta, FunctionDelta
from runner.api.openai.tool_types import Tools
from runner.api.responses.chat import Responses
from runner.api.responses.items import Conversation, placed
from runner.api.responses.output import Output, custom_input
from tests.runner.api.responses.test_responses import FLAT, client, respond
from tests.runner.api.typed import checked
from tests.runner.gateway.live import Gateway

openai = pytest.importorskip("openai", reason="the clients group is not installed")

__all__ = ["client"]
HOSTED = ("web_search", "local_shell", "mcp", "image_generation", "file_search", "code_interpreter")
SHIPS: Any = {"type": "namespace", "name": "mcp__ships", "description": "Ships", "tools": [FLAT]}
PATCH: Any = {"type": "custom", "name": "patch", "description": "Change a file."}


def test_hosted_tools_are_left_out_and_named(client: Any) -> None:
    answer = checked(respond(client, tools=[{"type": kind} for kind in HOSTED[:1]] + [FLAT]))
    assert answer.warnings == ["tools[0]: web_search was left out: this server has no such tool"]
    tools = Tools.read([{"type": kind} for kind in HOSTED])
    assert not tools.functions
    assert [one.split()[1] for one in tools.warnings] == list(HOSTED)
    forced = respond(client, tools=[{"type": "web_search"}], tool_choice={"type": "web_search_preview"})
    assert "web_search_preview has no effect" in forced.warnings[1]


def test_a_call_in_a_namespace_names_both(client: Any) -> None:
    answer = checked(respond(client, tools=[SHIPS], tool_choice="required", max_output_tokens=300))
    (call,) = answer.output
    assert (call.type, call.namespace, call.name) == ("function_call", "mcp__ships", "look")
    items: Any = [
        "Look",
        call.to_dict(),
        {"type": "function_call_output", "call_id": call.call_id, "output": "x"},
    ]
    items[0] = {"role": "user", "content": "Look"}
    chat = Responses({"model": "toy", "input": items, "tools": [SHIPS]}).chat
    (past,) = chat.messages[1].tool_calls or []
    assert past["function"]["name"] == "mcp__ships__look" == chat.toolbox.tools[0]["function"]["name"]
    assert respond(client, input=items, tools=[SHIPS]).output_text


def test_a_custom_tool_is_called_with_text(client: Any) -> None:
    choice = {"type": "custom", "name": "patch"}
    events = [checked(one) for one in respond(client, tools=[PATCH], tool_choice=choice, stream=True, max_output_tokens=4000)]  # fmt: skip
    names = [event.type for event in events]
    last = events[-1].response
    (call,) = last.output
    assert (call.type, call.name) == ("custom_tool_call", "patch")
    assert names[2:-1] == [
        "response.output_item.added",
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.done",
        "response.output_item.done",
    ]
    assert events[3].delta == events[4].input == call.input
    items: Any = [
        call.to_dict(),
        {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "done"},
    ]
    conversation = Conversation()
    conversation.add(placed(items))
    (past,) = conversation.messages[0].tool_calls or []
    assert json.loads(past["function"]["arguments"]) == {"input": call.input}
    assert (conversation.messages[1].role, conversation.messages[1].content) == ("tool", "done")


def test_the_input_of_a_custom_tool_matches_its_expression(client: Any) -> None:
    tool = PATCH | {"format": {"type": "grammar", "syntax": "regex", "definition": "[a-c]{3}-[0-9]{2}"}}
    (call,) = respond(client, tools=[tool], tool_choice="required", max_output_tokens=300).output
    letters, _, digits = call.input.partition("-")
    assert set(letters) <= set("abc")
    assert (len(letters), len(digits), digits.isdigit()) == (3, 2, True)


LARK = """start: command+
command: ("look" | "wait") " " NUMBER "\\n"
NUMBER: /[0-9]{1,2}/
"""


@pytest.mark.parametrize("choice", ["required", {"type": "custom", "name": "patch"}])
def test_the_input_of_a_custom_tool_matches_its_grammar(client: Any, choice: Any) -> None:
    tool = PATCH | {"format": {"type": "grammar", "syntax": "lark", "definition": LARK}}
    events = [checked(one) for one in respond(client, tools=[tool], tool_choice=choice, max_output_tokens=40, stream=True)]  # fmt: skip
    (call,) = events[-1].response.output
    assert (call.type, call.name) == ("custom_tool_call", "patch")
    assert re.match(r"(look|wait) [0-9]{1,2}", call.input), call.input
    assert re.fullmatch(r"((look|wait) [0-9]{1,2}\n)*.*", call.input), call.input
    deltas = [event.delta for event in events if event.type == "response.custom_tool_call_input.delta"]
    assert len(deltas) > 1
    assert "".join(deltas) == call.input
    broken = tool | {"format": {"type": "grammar", "syntax": "lark", "definition": "start: ("}}
    with pytest.raises(openai.BadRequestError, match=r"tools\.format\.definition"):
        respond(client, tools=[broken], tool_choice=choice)


def test_a_native_text_matches_its_expression(gateway: Gateway) -> None:
    body: Any = {"model": "toy", "prompt": "x", "stream": False, "options": {"num_predict": 40}}
    grammar = {"syntax": "regex", "definition": r"[a-c]{2}/\/[0-9]{2}"}
    answer = gateway.http.post("/completion", json=body | {"grammar": grammar})
    assert re.fullmatch(r"[a-c]{2}//[0-9]{2}", answer.json()["content"]), answer.text
    for fields, error in (
        ({"grammar": grammar, "format": "json"}, "grammar: it cannot be combined with format"),
        ({"grammar": grammar, "choice": ["a"]}, "choice: it cannot be combined with grammar"),
        ({"grammar": grammar | {"definition": "("}}, "grammar"),
        ({"grammar": grammar | {"syntax": "poem"}}, "grammar.syntax"),
    ):
        refused = gateway.http.post("/completion", json=body | fields)
        assert refused.status_code == 400
        assert refused.json()["error"].startswith(error), refused.text


def test_arguments_arrive_while_they_are_written(client: Any) -> None:
    events = list(respond(client, tools=[FLAT], tool_choice="required", max_output_tokens=300, stream=True))
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    (done,) = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert len(deltas) > 1
    assert "".join(deltas) == done.arguments == events[-1].response.output[0].arguments


def test_a_call_that_is_cut_is_incomplete() -> None:
    output = Output()
    first = CallDelta(0, FunctionDelta("look", '{"at": "se'), "call_1")
    for delta in (
        ChoiceDelta(call_deltas=[first]),
        ChoiceDelta(call_deltas=[CallDelta(0, FunctionDelta(arguments="a"))]),
    ):
        list(output.add(delta))
    names = [name for name, _ in output.close("incomplete")]
    assert names == ["response.function_call_arguments.done", "response.output_item.done"]
    (call,) = output.items
    assert (call.status, call.arguments) == ("incomplete", '{"at": "sea')  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arguments", "input"),
    [('{"input": "x"}', "x"), ('{"patch": "y"}', "y"), ('{"a": 1}', '{"a": 1}'), ("cut", "cut")],
)
def test_the_input_is_found_where_models_put_it(arguments: str, input: str) -> None:
    assert custom_input(arguments) == input


def test_past_items_of_every_type_are_read_or_left_out() -> None:
    items: Any = [
        {"role": "user", "content": "Look"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
        {
            "type": "local_shell_call",
            "id": "l",
            "call_id": "c1",
            "action": {"type": "exec", "command": ["ls"]},
        },
        {"type": "local_shell_call_output", "id": "c1", "output": "a.txt"},
        {"type": "shell_call", "call_id": "c2", "action": {"commands": ["ls"]}},
        {"type": "shell_call_output", "call_id": "c2", "output": [{"stdout": "a", "stderr": ""}]},
        {"type": "apply_patch_call", "call_id": "c3", "operation": {"type": "delete_file", "path": "a.txt"}},
        {"type": "apply_patch_call_output", "call_id": "c3", "status": "completed"},
        {
            "type": "mcp_call",
            "id": "m",
            "name": "look",
            "arguments": "{}",
            "server_label": "x",
            "output": "sea",
        },
        {"type": "function_call_output", "call_id": "c4", "output": [{"type": "input_text", "text": "blue"}]},
    ]
    conversation = Conversation()
    conversation.add(placed(items))
    roles = [message.role for message in conversation.messages]
    assert roles == ["user", *["assistant", "tool"] * 4, "tool"]
    assert [one.split(":")[0] for one in conversation.warnings] == ["input[1]", "input[2]"]
    assert [message.content for message in conversation.messages if message.role == "tool"] == [
        "a.txt", '[{"stdout":"a","stderr":""}]', "completed", "sea", "blue",
    ]  # fmt: skip


def test_thoughts_come_back_from_clients_that_keep_them_unread(calling: Gateway) -> None:
    caller = openai.OpenAI(base_url=f"{calling.url}/v1", api_key="none", max_retries=0)
    fields: Any = {"model": "caller", "input": "Look", "tools": [FLAT], "store": False}
    answer = checked(caller.responses.create(include=["reasoning.encrypted_content"], **fields))
    thoughts, message, *calls = answer.output
    assert (thoughts.content[0].text, message.content[0].text) == ("The sea, then.", "I look.")
    assert [call.name for call in calls] == ["look", "wait"]
    conversation = Conversation()
    conversation.add(
        placed([{"type": "reasoning", "summary": [], "encrypted_content": thoughts.encrypted_content}])
    )
    assert conversation.messages[0].reasoning_content == "The sea, then."
    assert caller.responses.create(**fields).output[0].encrypted_content is None


def test_past_calls_whose_arguments_are_not_json_are_passed_on(client: Any) -> None:
    items: Any = [
        {"role": "user", "content": "Look"},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "at the sea"},
        {"type": "function_call_output", "call_id": "c1", "output": "blue"},
    ]
    assert respond(client, input=items, tools=[FLAT]).output_text
