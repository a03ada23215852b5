"""Renders a chat with the model's chat template, ready for the answer to be generated or continued."""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from models.tokenizers.deadline import OutOfTime, within
from runner.engine.text.tool_prompts import (
    are_described,
    as_text_messages,
    insert_first,
    introduce,
    supports_tools,
)
from runner.errors import BadRequest
from runner.protocol.text import Message, TextRequest

# A template is a program that comes with the model; it needs milliseconds even for a long chat.
RENDER_SECONDS = 10.0

TemplateMessage = dict[str, Any]


@dataclass(frozen=True)
class ChatPrompt:
    """`begun`: the existing beginning of the answer; None: the answer is a new turn."""

    text: str
    begun: str | None = None


def render_chat(tokenizer: Any, request: TextRequest) -> ChatPrompt:
    """An assistant message at the end is continued, unless the request asks for a new turn."""
    if not tokenizer.has_chat_template:
        raise BadRequest("messages: this model does not have a chat template; send a prompt instead")
    messages = [_template_message(message) for message in request.messages or []]
    if request.continue_final_message is None and _is_placeholder(messages):
        del messages[-1]
    begun = messages[-1]["content"] if _continues(messages, request.continue_final_message) else None
    text = _render_tools(tokenizer, messages, request, begun)
    if begun is not None and not text.rstrip().endswith(begun.strip()):
        raise _cannot_continue(messages)
    return ChatPrompt(text, begun)


def _continues(messages: list[TemplateMessage], choice: bool | None) -> bool:
    last = messages[-1]
    possible = last["role"] == "assistant" and not last.get("tool_calls")
    if choice and not possible:
        raise BadRequest(
            "continue_final_message: true is only allowed if the last message has the role assistant and no tool_calls"
        )
    return possible if choice is None else choice


def _is_placeholder(messages: list[TemplateMessage]) -> bool:
    """Some clients append an empty assistant message. It is dropped: only the header of a new turn can open a thought."""
    last = messages[-1]
    return (
        len(messages) > 1
        and last["role"] == "assistant"
        and last.keys() <= {"role", "content"}
        and not last["content"]
    )


def _render_tools(
    tokenizer: Any, messages: list[TemplateMessage], request: TextRequest, begun: str | None
) -> str:
    """If the template cannot render them, tools are described in a message, and calls become text."""
    described = are_described(tokenizer, request)
    if not described and supports_tools(tokenizer):
        return _render(tokenizer, messages, request, begun)
    messages = as_text_messages(messages, marked=described and request.tool_choice != "required")
    bare = replace(request, tools=None)
    if not described:
        return _render(tokenizer, messages, bare, begun)
    introduction = introduce(request)
    try:
        return _render(tokenizer, insert_first(messages, introduction, "system"), bare, begun)
    except BadRequest:  # some templates do not support a system message either
        return _render(tokenizer, insert_first(messages, introduction, "user"), bare, begun)


def _render(tokenizer: Any, messages: list[TemplateMessage], request: TextRequest, begun: str | None) -> str:
    # The grammar leaves no room for thinking.
    think = False if request.tool_choice == "required" else request.think
    extra: dict[str, Any] = {} if think is None else {"enable_thinking": think}
    if begun is not None:  # templates that are Python code may not know the parameter
        extra["continue_final_message"] = True
    render = partial(
        tokenizer.apply_chat_template,
        messages,
        tools=request.tools or None,
        add_generation_prompt=begun is None,
        tokenize=False,
        **extra,
    )
    try:
        return str(within(RENDER_SECONDS, render))
    except OutOfTime:
        raise BadRequest(
            f"messages: the model's chat template did not finish within {RENDER_SECONDS:g} seconds"
        ) from None
    except RecursionError:
        raise BadRequest("messages: nested too deeply for the chat template") from None
    except Exception as error:  # a template may raise anything to reject a request
        if begun is not None and str(error).startswith("continue_final_message is set"):
            raise _cannot_continue(messages) from None
        raise BadRequest(f"messages: rejected by the model's chat template: {error}") from None


def _cannot_continue(messages: list[TemplateMessage]) -> BadRequest:
    return BadRequest(
        f"messages[{len(messages) - 1}].content cannot be continued: the model's chat template omits or changes "
        "parts of it; for a new turn, end with a user message"
    )


def _template_message(message: Message) -> TemplateMessage:
    """A message as templates expect it: text parts joined, tool arguments as objects if they are JSON."""
    plain: TemplateMessage = msgspec.to_builtins(message)
    if not isinstance(message.content, str):
        plain["content"] = "".join(part.text for part in message.content or [])
    for call in plain.get("tool_calls") or []:
        function = call.get("function")
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            with suppress(msgspec.DecodeError):  # a call that was cut stays text
                function["arguments"] = msgspec.json.decode(function["arguments"])
    return plain
