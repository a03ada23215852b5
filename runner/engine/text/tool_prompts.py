"""Tools for chat templates that know none: what there is to call, what was called and what came of it, as plain text."""

import json
from collections.abc import Sequence
from typing import Any

Plain = dict[str, Any]  # a message as templates take it

INTRODUCTION = "These are the tools that you can call, each as JSON:"
REQUEST = (
    'Answer with a call of one of them, as JSON: {"name": the name of the tool, "arguments": {its arguments}}'
)


def knows_tools(tokenizer: Any) -> bool:
    """Whether a model's chat template writes tools and calls. One that is code does."""
    template = getattr(tokenizer, "chat_template", None)
    return "tool" in template if isinstance(template, str) else True


def introduce(tools: Sequence[dict[str, Any]]) -> str:
    """What a model is told of its tools."""
    functions = [json.dumps(tool["function"], ensure_ascii=False) for tool in tools]
    return "\n".join([INTRODUCTION, *functions, "", REQUEST])


def put_first(messages: Sequence[Plain], words: str, role: str) -> list[Plain]:
    """The words as the first message of a role, ahead of what that says already."""
    index = next((index for index, message in enumerate(messages) if message["role"] == role), None)
    if index is None or (role == "system" and index):
        return [{"role": role, "content": words}, *messages]
    message = messages[index]
    parts = (message["content"], words) if role == "system" else (words, message["content"])
    told = {**message, "content": "\n\n".join(part for part in parts if part)}
    return [*messages[:index], told, *messages[index + 1 :]]


def in_words(messages: Sequence[Plain]) -> list[Plain]:
    """Calls as what the assistant said, results as what the user says: without these, a template leaves them out."""
    names: dict[Any, str] = {}  # of the tools, by the ids of their calls
    told: list[Plain] = []
    after_result = False
    for message in messages:
        is_result = message["role"] == "tool"
        if is_result:
            name = message.get("name") or names.get(message.get("tool_call_id")) or "the tool"
            text = f"{name} returned: {message['content']}"
            if after_result:  # many templates want users and assistants to take turns
                told[-1]["content"] += f"\n{text}"
            else:
                told.append({"role": "user", "content": text})
        else:
            calls = message.get("tool_calls") or []
            names |= {call.get("id"): str(_function(call).get("name")) for call in calls}
            told.append(_said(message, calls) if calls else message)
        after_result = is_result
    return told


def _said(message: Plain, calls: Sequence[dict[str, Any]]) -> Plain:
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
