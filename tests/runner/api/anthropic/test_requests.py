"""Requests of Anthropic's API as the engine's: turns of blocks, tools, thinking, and what is refused. In process."""

from typing import Any

import pytest

from runner.api.anthropic.requests import Messages
from runner.errors import BadRequest
from runner.protocol.text import Message, Part, TextRequest, encode
from tests.runner.fuzzing import VALUES

ASK = {"role": "user", "content": "How is the sea?"}
LOOK = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "sea"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "blue"}


def read(*turns: Any, **fields: Any) -> Messages:
    return Messages(encode({"model": "toy", "max_tokens": 4096, "messages": [*turns] or [ASK], **fields}))


def text(*turns: Any, **fields: Any) -> TextRequest:
    return read(*turns, **fields).text()


def messages(*turns: Any, **fields: Any) -> list[Message]:
    return text(*turns, **fields).messages or []


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def said(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def test_a_system_text_comes_first_whole_or_in_blocks() -> None:
    for system in ("Be brief.\n\nBe kind.", [said("Be brief."), said("Be kind.")]):
        first, second = messages(system=system)
        assert (first.role, first.content, second.role) == ("system", "Be brief.\n\nBe kind.", "user")
    billing = said("x-anthropic-billing-header: cc_version=2.1.197.1c0;")
    assert messages(system=[billing, said("Be brief.")])[0].content == "Be brief."
    assert messages({"role": "system", "content": "Be brief."}, ASK)[0].role == "system"


def test_a_later_system_message_is_part_of_what_the_user_says() -> None:
    (only,) = messages(ASK, {"role": "system", "content": "It rains."})
    assert only.role == "user"
    assert only.content == "How is the sea?\n\n<system-reminder>\nIt rains.\n</system-reminder>"


def test_calls_and_results_are_messages_with_the_name_of_their_tool() -> None:
    call, result, after = messages(ASK, assistant(said("I look."), CALL), user(RESULT, said("And now?")))[1:]
    assert (call.content, call.tool_calls) == (
        "I look.",
        [{"id": "toolu_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"sea"}'}}],
    )
    assert result == Message("tool", "blue", tool_call_id="toolu_1", name="look")
    assert after == Message("user", "And now?")
    failed = {**RESULT, "content": [said("no"), said("light")], "is_error": True}
    assert messages(ASK, assistant(CALL), user(failed))[2].content == "Error: no\nlight"


def test_turns_of_one_role_are_one_turn() -> None:
    (only,) = messages(user(said("One.")), user(said("Two."), said("Three.")))
    assert only.content == "One.\n\nTwo.\n\nThree."
    *_, begun = messages(ASK, assistant(said("The sea")), assistant(said(" is")))
    assert begun.content == "The sea is"


def test_documents_and_search_results_are_text() -> None:
    document = {
        "type": "document",
        "title": "Log",
        "source": {"type": "text", "media_type": "text/plain", "data": "Calm."},
    }
    parts = {"type": "document", "source": {"type": "content", "content": [said("Calm.")]}}
    result = {"type": "search_result", "title": "Sea", "source": "https://x", "content": [said("Blue.")]}
    (only,) = messages(user(document, parts, result))
    assert only.content == "Log\nCalm.\n\nCalm.\n\nSea\nhttps://x\nBlue."


def test_pictures_keep_their_places_and_those_of_results_follow_them() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    other = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "BBBB"}}
    (only,) = messages(user(said("Look:"), picture, said("And"), said("now?")))
    assert only.content == [Part("text", "Look:"), Part("image"), Part("text", "And\n\nnow?")]
    assert only.images == ["AAAA"]
    shot = {**RESULT, "content": [said("Done."), other]}
    result, shown = messages(ASK, assistant(CALL), user(shot, picture, said("So?")))[2:]
    assert (result.role, result.content) == ("tool", "Done.")
    assert (shown.content, shown.images) == (
        [Part("image"), Part("image"), Part("text", "So?")],
        ["BBBB", "AAAA"],
    )
    (both,) = messages(user(picture), user(other, said("Which?")))
    assert both.images == ["AAAA", "BBBB"]


def test_thoughts_of_earlier_turns_are_cleared_as_asked() -> None:
    turns = [ASK, assistant({"type": "thinking", "thinking": "A.", "signature": "x"}, said("a"))] * 3

    def kept(**edit: Any) -> list[str | None]:
        edits = {"edits": [{"type": "clear_thinking_20251015", **edit}]}
        all_messages = messages(*turns, ASK, context_management=edits)
        return [one.reasoning_content for one in all_messages if one.role == "assistant"]

    assert kept(keep="all") == ["A.", "A.", "A."]
    assert kept(keep={"type": "thinking_turns", "value": 2}) == [None, "A.", "A."]
    assert kept() == [None, None, "A."]
    with pytest.raises(BadRequest, match=r"^context_management\.edits\.keep: it must be"):
        kept(keep={"type": "thinking_turns", "value": 0})


@pytest.mark.parametrize(
    ("thinking", "think"),
    [
        (None, False),
        ({"type": "disabled"}, False),
        ({"type": "adaptive"}, None),
        ({"type": "enabled", "budget_tokens": 1024}, True),
    ],
)
def test_whether_a_model_thinks_is_said_by_the_request(thinking: Any, think: bool | None) -> None:
    request = read(thinking=thinking)
    assert request.text().think is think
    assert request.text().thinking_budget == (1024 if think else None)
    assert request.warnings == []
    assert text(thinking=thinking, tools=[LOOK], tool_choice={"type": "any"}).think is False


def test_tools_of_the_client_have_a_schema_and_those_of_servers_are_left_out() -> None:
    tools = [
        LOOK,
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "code_execution_20250825", "name": "code_execution"},
    ]
    request = read(tools=tools, mcp_servers=[{"name": "x"}], container="x")
    functions = [tool["function"] for tool in request.text().tools or []]
    assert [function["name"] for function in functions] == ["look", "bash", "str_replace_based_edit_tool"]
    assert all(function["parameters"]["type"] == "object" for function in functions)
    assert [warning.split(" was ")[0] for warning in request.warnings] == [
        "tools[3]",
        "mcp_servers",
        "container",
    ]
    past = {"type": "web_search_tool_result", "tool_use_id": "x", "content": {"type": "error"}}
    request = read(ASK, assistant(said("Hm."), past), ASK)
    request.text()
    assert request.warnings[0].startswith("messages[1].content[1] was left out: blocks of type web_search")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": [{"role": "tool", "content": "x"}]}, r"^messages\[0\]\.role: 'tool' is not supported"),
        ({"messages": [user({"type": "text"})]}, r"^messages\[0\]\.content\[0\]\.text is missing"),
        ({"messages": [user({"type": "image"})]}, r"\.source\.type: 'none' is not supported: nothing is fetched"),
        ({"messages": [user({"type": "image", "source": {"type": "url", "url": "https://x"}})]}, r"\.source\.type: 'url' is not supported"),
        ({"messages": [user({"type": "sound"})]}, r"^messages\[0\]\.content\[0\]\.type: 'sound' is not"),
        ({"messages": [user({"type": "document"})]}, r"\.source\.type: 'none' is not supported"),
        ({"messages": [user({"type": "tool_result"})]}, r"\.tool_use_id is missing"),
        ({"messages": [assistant({"type": "tool_use", "id": "x"})]}, r"\.name is missing"),
        ({"messages": [assistant({**CALL, "input": 3})]}, r"\.input: an object is needed"),
        ({"messages": [{"role": "system", "content": "x"}]}, "^messages: a user's message"),
        ({"tools": [{"name": "x"}]}, r"^tools\[0\]\.input_schema is missing"),
        ({"tool_choice": {"type": "any"}}, "^tool_choice: a call is required, but tools is empty"),
        ({"tools": [LOOK], "tool_choice": {"type": "tool", "name": "y"}}, "^tool_choice: 'y' is not one of"),
        ({"thinking": {"type": "enabled"}}, r"^thinking\.budget_tokens is missing"),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, r"^thinking\.budget_tokens: 9 is not allowed"),
        ({"keep_alive": "soon"}, "^keep_alive: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_place(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        text(**fields)


FIELDS = ("messages", "system", "tools", "tool_choice", "thinking", "output_config", "context_management", "stop_sequences", "mcp_servers")  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_any_value_anywhere_is_read_or_refused(field: str) -> None:
    outcomes = set()
    for value in VALUES:
        try:
            body = encode({"model": "toy", "max_tokens": 9, "messages": [ASK], field: value})
        except UnicodeEncodeError:  # half a surrogate pair cannot be sent
            continue
        try:
            outcomes.add(type(Messages(body).text()))
        except BadRequest:
            outcomes.add(BadRequest)
    assert BadRequest in outcomes
