"""The messages of a chat, in every API's words: what they need, and what may stand without it. In process."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from runner.api.ollama.requests import Chat as OllamaChat
from runner.api.openai.chat import Chat as OpenAIChat
from runner.api.responses.chat import Responses
from runner.errors import BadRequest
from runner.protocol.text import Message, encode
from runner.protocol.text_rules import parse_text

Messages = list[dict[str, Any]]

USER = {"role": "user", "content": "How is the sea?"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": {}}}


def native(messages: Messages) -> Messages:
    parse_text({"messages": messages})
    return messages


def openai(messages: Messages) -> list[Message]:
    return OpenAIChat.read(encode({"model": "toy", "messages": messages})).messages


def ollama(messages: Messages) -> list[Message]:
    return OllamaChat(encode({"model": "toy", "messages": messages})).messages


apis = pytest.mark.parametrize("read", [native, openai, ollama])


@apis
@pytest.mark.parametrize("role", ["user", "system", "assistant"])
@pytest.mark.parametrize(
    "rest", [{}, {"content": None}, {"tool_calls": []}, {"content": None, "tool_calls": None}]
)
def test_a_message_without_content_is_refused_by_its_place(
    read: Callable[[Messages], Sequence[Any]], role: str, rest: dict[str, Any]
) -> None:
    with pytest.raises(BadRequest, match=r"^messages\[1\]\.content is missing; text is needed"):
        read([USER, {"role": role, **rest}, USER])


@apis
@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1"},
        {"role": "user", "content": ""},
    ],
)
def test_calls_and_what_tools_return_stand_without_content(
    read: Callable[[Messages], Sequence[Any]], message: dict[str, Any]
) -> None:
    assert len(read([USER, message, USER])) == 3


def test_thoughts_and_refusals_stand_without_content() -> None:
    assert ollama([USER, {"role": "assistant", "thinking": "Blue."}])[1].reasoning_content == "Blue."
    thought = {"role": "assistant", "reasoning_content": "Blue."}
    assert openai([USER, thought])[1].reasoning_content == "Blue."
    assert openai([USER, {"role": "assistant", "refusal": "No."}])[1].content == "No."
    native([USER, {"role": "assistant", "reasoning_content": "Blue."}])


def test_an_item_of_responses_without_content_is_refused_by_its_place() -> None:
    with pytest.raises(BadRequest, match=r"^input\[0\]\.content is missing"):
        Responses({"model": "toy", "input": [{"role": "user"}]})


@pytest.mark.parametrize(
    ("fields", "continues"),
    [
        ({}, None),
        ({"continue_final_message": True, "add_generation_prompt": False}, True),
        ({"continue_final_message": False}, False),
        ({"add_generation_prompt": True}, False),
        ({"add_generation_prompt": False}, True),
    ],
)
def test_whether_an_answer_goes_on_with_the_last_message_is_said_as_vllm_has_it(
    fields: dict[str, Any], continues: bool | None
) -> None:
    begun = [USER, {"role": "assistant", "content": "The sea is"}]
    (chat,) = OpenAIChat.read(encode({"model": "toy", "messages": begun, **fields})).engine_requests()
    assert chat.continue_final_message is continues
    (response,) = Responses({"model": "toy", "input": begun, **fields}).chat.engine_requests()
    assert response.continue_final_message is continues


@pytest.mark.parametrize("both", [True, False])
def test_a_new_turn_that_goes_on_with_the_last_message_is_refused(both: bool) -> None:
    fields = {"continue_final_message": both, "add_generation_prompt": both}
    with pytest.raises(BadRequest, match=r"^add_generation_prompt: (true|false) is not allowed"):
        OpenAIChat.read(encode({"model": "toy", "messages": [USER], **fields})).engine_requests()


def test_every_api_has_a_priority() -> None:
    body = {"model": "toy", "messages": [USER]}
    requests = [
        parse_text({"messages": [USER], "priority": -3}),
        parse_text({"messages": [USER], "options": {"priority": -3}}),
        *OpenAIChat.read(encode({**body, "n": 2, "priority": -3})).engine_requests(),
        *Responses({"model": "toy", "input": [USER], "priority": -3}).chat.engine_requests(),
        OllamaChat(encode({**body, "options": {"priority": -3}})).text(),
    ]
    assert [request.options.priority for request in requests] == [-3] * 6
    assert OllamaChat(encode(body)).text().options.priority == 0


@pytest.mark.parametrize("priority", [2**31, -(2**31) - 1, 1.5, "high"])
def test_a_priority_that_is_no_whole_number_in_range_is_refused(priority: Any) -> None:
    body = {"model": "toy", "messages": [USER]}
    with pytest.raises(BadRequest, match=r"^priority"):
        OpenAIChat.read(encode({**body, "priority": priority}))
    with pytest.raises(BadRequest, match=r"^options\.priority"):
        OllamaChat(encode({**body, "options": {"priority": priority}}))
