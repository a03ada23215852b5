"""Tools for chat templates without support for them: tools, calls and results as plain text."""

import json
from collections.abc import Sequence
from typing import Any

TemplateMessage = dict[str, Any]

INTRODUCTION = "These are the tools that you can call, each as JSON:"
REQUEST = (
    'Answer with a call of one of them, as JSON: {"name": the name of the tool, "arguments": {its arguments}}'
)


def supports_tools(tokenizer: Any) -> bool:
    """Whether a model's chat template renders tools and calls. A template that is Python code does."""
    template = getattr(tokenizer, "chat_template", None)
    return "tool" in template if isinstance(template, str) else True


def introduce(tools: Sequence[dict[str, Any]]) -> str:
    """The description of the tools for the model."""
    functions = [json.dumps(tool["function"], ensure_ascii=False) for tool in tools]
    return "\n".join([INTRODUCTION, *functions, "", REQUEST])


def insert_first(messages: Sequence[TemplateMessage], text: str, role: str) -> list[TemplateMessage]:
    """Add the text to the first message with that role, or as a new first message."""
    index = next((index for index, message in enumerate(messages) if message["role"] == role), None)
    if index is None or (role == "system" and index):
        return [{"role": role, "content": text}, *messages]
    message = messages[index]
    parts = (message["content"], text) if role == "system" else (text, message["content"])
    extended = {**message, "content": "\n\n".join(part for part in parts if part)}
    return [*messages[:index], extended, *messages[index + 1 :]]


def as_text_messages(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """Turn calls into assistant text and results into user messages: the template would drop them otherwise."""
    names: dict[Any, str] = {}  # of tools, by the ids of their calls
    converted: list[TemplateMessage] = []
    after_result = False
    for message in messages:
        is_result = message["role"] == "tool"
        if is_result:
            name = message.get("name") or names.get(message.get("tool_call_id")) or "the tool"
            text = f"{name} returned: {message['content']}"
            if after_result:  # many templates require alternating roles
                converted[-1]["content"] += f"\n{text}"
            else:
                converted.append({"role": "user", "content": text})
        else:
            calls = message.get("tool_calls") or []
            names |= {call.get("id"): str(_function(call).get("name")) for call in calls}
            converted.append(_with_calls_as_text(message, calls) if calls else message)
        after_result = is_result
    return converted


def _with_calls_as_text(message: TemplateMessage, calls: Sequence[dict[str, Any]]) -> TemplateMessage:
    parts = [message["content"], *map(_call, calls)]
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**rest, "content": "\n".join(part for part in parts if part)}


def _call(call: dict[str, Any]) -> str:
    function = _function(call)
    text = {"name": function.get("name"), "arguments": function.get("arguments") or {}}
    return json.dumps(text, ensure_ascii=False)


def _function(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function", call)
    return function if isinstance(function, dict) else {}
