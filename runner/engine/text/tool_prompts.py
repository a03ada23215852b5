"""Tools for models without a tool-call format that is known here: tools, calls and results as plain text."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runner.engine.text.output_parser import Markers
from runner.protocol.text import TextRequest

TemplateMessage = dict[str, Any]

INTRODUCTION = "These are the tools that you can call, each as JSON:"
CALL_FORM = '{"name": the name of the tool, "arguments": {its arguments}}'
REQUEST = f"Answer with a call of one of them, as JSON: {CALL_FORM}"
START, END = "<tool_call>", "</tool_call>"
OFFER = (
    f"To call one of them, write {START}{CALL_FORM}{END}. If you do not need a tool, answer without any call."
)
NOTE = (
    "tools: this model has no tool-call format that is supported here, so the tools are described in a message, and calls "
    "are held to JSON"
)


def supports_tools(tokenizer: Any) -> bool:
    """Whether a model's chat template renders tools and calls. A template that is Python code does; one of Ollama's is known."""
    known = getattr(tokenizer, "renders_tools", None)
    if known is not None:
        return bool(known)
    template = getattr(tokenizer, "chat_template", None)
    return "tool" in template if isinstance(template, str) else True


def are_described(tokenizer: Any, request: TextRequest) -> bool:
    """Whether the tools of a request are described in a message, not by the chat template."""
    if not request.tools:
        return False
    must = request.tool_choice == "required"
    return not supports_tools(tokenizer) or (tokenizer.tool_parser is None and not must)


def described_markers(markers: Markers) -> Markers:
    """The markers of an answer that may call tools that were described to the model."""
    return replace(markers, call_start=START, call_end=END, tool_parser=_read_call, json_calls=True)


def _read_call(text: str, tools: Any) -> Any:
    return json.loads(text)


def introduce(request: TextRequest) -> str:
    """The description of the tools for the model."""
    functions = [json.dumps(tool.get("function"), ensure_ascii=False) for tool in request.tools or []]
    how = REQUEST if request.tool_choice == "required" else OFFER
    return "\n".join([INTRODUCTION, *functions, "", how])


def insert_first(messages: Sequence[TemplateMessage], text: str, role: str) -> list[TemplateMessage]:
    """Add the text to the first message with that role, or as a new first message."""
    index = next((index for index, message in enumerate(messages) if message["role"] == role), None)
    if index is None or (role == "system" and index):
        return [{"role": role, "content": text}, *messages]
    message = messages[index]
    parts = (message["content"], text) if role == "system" else (text, message["content"])
    extended = {**message, "content": "\n\n".join(part for part in parts if part)}
    return [*messages[:index], extended, *messages[index + 1 :]]


def as_text_messages(messages: Sequence[TemplateMessage], marked: bool) -> list[TemplateMessage]:
    """Turn calls into assistant text and results into user messages: the template would drop them otherwise. `marked`:
    calls stand between markers, as the model is told to write them."""
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
            converted.append(_with_calls_as_text(message, calls, marked) if calls else message)
        after_result = is_result
    return converted


def _with_calls_as_text(
    message: TemplateMessage, calls: Sequence[dict[str, Any]], marked: bool
) -> TemplateMessage:
    texts = map(_call, calls)
    parts = [message["content"], *(f"{START}{text}{END}" if marked else text for text in texts)]
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**rest, "content": "\n".join(part for part in parts if part)}


def _call(call: dict[str, Any]) -> str:
    function = _function(call)
    text = {"name": function.get("name"), "arguments": function.get("arguments") or {}}
    return json.dumps(text, ensure_ascii=False)


def _function(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function", call)
    return function if isinstance(function, dict) else {}
