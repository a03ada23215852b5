"""Renders a chat with the model's chat template, ready for the answer to be generated or continued."""

import secrets
from collections.abc import Sequence
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
from runner.protocol.text import Message, TextRequest, content_parts

# A template is a program that comes with the model; it needs milliseconds even for a long chat.
RENDER_SECONDS = 10.0
PROBE = "What is there to see?"

TemplateMessage = dict[str, Any]


@dataclass(frozen=True)
class ChatPrompt:
    """`begun`: the existing beginning of the answer; None: the answer is a new turn."""

    text: str
    begun: str | None = None


@dataclass(frozen=True)
class ContentForm:
    """How the template of a model that sees takes the content of a message: as text, as a list of parts, or either.
    `marker`: what stands for a picture in text."""

    text: bool
    parts: bool
    marker: str

    @classmethod
    def of(cls, tokenizer: Any, marker: str) -> "ContentForm":
        """By what the template makes of each. One that is neither gets text, and says itself what it does not take."""
        parts = _tried(tokenizer, [{"type": "image"}, {"type": "text", "text": PROBE}])
        takes_parts = PROBE in parts and "'type'" not in parts and '"type"' not in parts
        return cls(PROBE in _tried(tokenizer, PROBE) or not takes_parts, takes_parts, marker)

    def content(self, pieces: Sequence[str]) -> str | list[dict[str, str]]:
        """The texts before, between and after pictures."""
        if self.text and (len(pieces) == 1 or not self.parts):
            return self.marker.join(pieces)
        parts: list[dict[str, str]] = []
        for at, text in enumerate(pieces):
            parts += [{"type": "image"}] if at else []
            parts += [{"type": "text", "text": text}] if text or len(pieces) == 1 else []
        return parts


def _tried(tokenizer: Any, content: Any) -> str:
    try:
        message = {"role": "user", "content": content}
        render = partial(tokenizer.apply_chat_template, [message], add_generation_prompt=True, tokenize=False)
        return str(within(RENDER_SECONDS, render))
    except Exception:  # whatever a template does with content of another form
        return ""


def render_chat(tokenizer: Any, request: TextRequest, form: ContentForm | None = None) -> ChatPrompt:
    """An assistant message at the end is continued, unless the request asks for a new turn. `form`: for a model that sees."""
    if not tokenizer.has_chat_template:
        raise BadRequest("messages: this model does not have a chat template; send a prompt instead")
    place = f"<picture {secrets.token_hex(8)}>"  # unlike anything that a message may say
    messages = [_template_message(message, place) for message in request.messages or []]
    if request.continue_final_message is None and _is_placeholder(messages):
        del messages[-1]
    begun = messages[-1]["content"] if _continues(messages, request.continue_final_message) else None
    if form is not None:
        tokenizer = _WithParts(tokenizer, form, place)
    text = _render_tools(tokenizer, messages, request, begun)
    if begun is not None and not text.rstrip().endswith(begun.strip()):
        raise _cannot_continue(messages)
    return ChatPrompt(text, begun)


class _WithParts:
    """A tokenizer whose template gets the content of messages in the form that it takes."""

    def __init__(self, tokenizer: Any, form: ContentForm, place: str) -> None:
        self._tokenizer, self._form, self._place = tokenizer, form, place

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def apply_chat_template(self, messages: list[TemplateMessage], **options: Any) -> Any:
        formed = [
            {**message, "content": self._form.content(message["content"].split(self._place))}
            for message in messages
        ]
        return self._tokenizer.apply_chat_template(formed, **options)


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


def _template_message(message: Message, place: str) -> TemplateMessage:
    """A message as templates expect it: its parts joined, with `place` where pictures are, tool arguments as objects
    if they are JSON."""
    plain: TemplateMessage = msgspec.to_builtins(replace(message, images=None))
    if not isinstance(message.content, str) or message.images:
        parts = content_parts(message)
        plain["content"] = "".join(place if part.type == "image" else part.text or "" for part in parts)
    for call in plain.get("tool_calls") or []:
        function = call.get("function")
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            with suppress(msgspec.DecodeError):  # a call that was cut stays text
                function["arguments"] = msgspec.json.decode(function["arguments"])
    return plain
