"""A chat as the text that its model reads: rendered by the tokenizer's template, the last answer left open."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from models.tokenizers.deadline import OutOfTime, within
from runner.engine.text.tool_prompts import in_words, introduce, knows_tools, put_first
from runner.errors import BadRequest
from runner.protocol.text import Message, TextRequest

# A template is a program of the model's, and a long chat takes it milliseconds.
RENDER_SECONDS = 10.0

Plain = dict[str, Any]  # a message as templates take it


@dataclass(frozen=True)
class ChatPrompt:
    """`begun` is what stands of the answer already; None: the answer is a new turn."""

    text: str
    begun: str | None = None


def render_chat(tokenizer: Any, request: TextRequest) -> ChatPrompt:
    """An assistant's message at the end is continued, unless the request asks for a new turn."""
    if not tokenizer.has_chat_template:
        raise BadRequest("messages: this model has no chat template; send a prompt instead")
    messages = [_plain(message) for message in request.messages or []]
    if request.continue_final_message is None and _is_placeholder(messages):
        del messages[-1]
    begun = messages[-1]["content"] if _continues(messages, request.continue_final_message) else None
    text = _render_tools(tokenizer, messages, request, begun)
    if begun is not None and not text.rstrip().endswith(begun.strip()):
        raise _cannot_continue(messages)
    return ChatPrompt(text, begun)


def _continues(messages: list[Plain], choice: bool | None) -> bool:
    last = messages[-1]
    possible = last["role"] == "assistant" and not last.get("tool_calls")
    if choice and not possible:
        raise BadRequest(
            "continue_final_message: true is not allowed here; the last message must be an assistant's, without tool_calls"
        )
    return possible if choice is None else choice


def _is_placeholder(messages: list[Plain]) -> bool:
    """Some clients send the answer's empty message along. What opens a thought stands in a new turn's header alone."""
    last = messages[-1]
    return (
        len(messages) > 1
        and last["role"] == "assistant"
        and last.keys() <= {"role", "content"}
        and not last["content"]
    )


def _render_tools(tokenizer: Any, messages: list[Plain], request: TextRequest, begun: str | None) -> str:
    """A template that knows no tools is given them in words, at least where the answer must be a call."""
    if knows_tools(tokenizer):
        return _render(tokenizer, messages, request, begun)
    messages = in_words(messages)
    if request.tool_choice != "required":
        return _render(tokenizer, messages, request, begun)
    introduction = introduce(request.tools or [])
    try:
        return _render(tokenizer, put_first(messages, introduction, "system"), request, begun)
    except BadRequest:  # some templates know no system either
        return _render(tokenizer, put_first(messages, introduction, "user"), request, begun)


def _render(tokenizer: Any, messages: list[Plain], request: TextRequest, begun: str | None) -> str:
    # Under a grammar no thought can be written.
    think = False if request.tool_choice == "required" else request.think
    extra: dict[str, Any] = {} if think is None else {"enable_thinking": think}
    if begun is not None:  # templates that are code need not know the word
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
            f"messages: the model's chat template did not come to an end within {RENDER_SECONDS:g} seconds"
        ) from None
    except RecursionError:
        raise BadRequest("messages: nested too deeply for the chat template") from None
    except Exception as error:  # a template may raise anything; it is the request that it did not like
        if begun is not None and str(error).startswith("continue_final_message is set"):
            raise _cannot_continue(messages) from None
        raise BadRequest(f"messages: the model's chat template refused them: {error}") from None


def _cannot_continue(messages: list[Plain]) -> BadRequest:
    return BadRequest(
        f"messages[{len(messages) - 1}].content cannot be continued: the model's chat template leaves out or changes "
        "some of it; let the messages end with a user's for a new turn"
    )


def _plain(message: Message) -> Plain:
    """A message as templates want it: text parts joined, tool arguments as objects."""
    plain: Plain = msgspec.to_builtins(message)
    if not isinstance(message.content, str):
        plain["content"] = "".join(part.text for part in message.content or [])
    for call in plain.get("tool_calls") or []:
        function = call.get("function")
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            try:
                function["arguments"] = msgspec.json.decode(function["arguments"])
            except msgspec.DecodeError:
                raise BadRequest("messages: the arguments of a tool call are not JSON") from None
    return plain
