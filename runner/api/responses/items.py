"""Input items: as messages for the model, and as they are stored and listed."""

import uuid
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from runner.api.openai.chat import Turn, engine_call, engine_message
from runner.api.openai.tool_types import flat_name
from runner.api.responses.sealed import unseal
from runner.errors import BadRequest
from runner.protocol.text import Message, parse
from runner.protocol.validation import shown

Item = dict[str, Any]
# Where an item stands in the request, for error messages, and the item.
Placed = tuple[str, Item]

# Of tools that clients run themselves: the name of the tool, and the field with what it is given.
CLIENT_CALLS = {
    "local_shell_call": ("local_shell", "action"),
    "shell_call": ("shell", "action"),
    "apply_patch_call": ("apply_patch", "operation"),
}
CALL_OUTPUTS = (
    "function_call_output",
    "custom_tool_call_output",
    "local_shell_call_output",
    "shell_call_output",
    "apply_patch_call_output",
)
# Of tools that other servers run, and of what only they can read.
LEFT_OUT = frozenset(
    [
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "computer_call",
        "computer_call_output",
        "tool_search_call",
        "tool_search_output",
        "mcp_list_tools",
        "mcp_approval_request",
        "mcp_approval_response",
        "additional_tools",
        "configuration_update",
        "compaction_trigger",
        "program",
        "program_output",
    ]
)
PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "reasoning": "rs",
    "compaction": "cmp",
    "custom_tool_call": "ctc",
}
SUMMARY = "A summary of the conversation so far:\n\n"


def kind_of_item(item: Item) -> str:
    """Its type, which messages and references may leave out."""
    kind = item.get("type")
    if kind is None:
        return "message" if "role" in item or "id" not in item else "item_reference"
    return str(kind)


def placed(input: str | list[Item] | None) -> list[Placed]:
    if isinstance(input, str):
        return [("input", {"role": "user", "content": input})]
    return [(f"input[{index}]", item) for index, item in enumerate(input or [])]


class Conversation:
    """Items as messages. Reasoning and calls become part of the assistant's message that follows from them."""

    def __init__(self, instructions: str | None = None) -> None:
        self.messages = [Message("system", instructions)] if instructions else []
        self._left_out: dict[str, str] = {}

    def add(self, items: Iterable[Placed]) -> None:
        for place, item in items:
            self._add(place, kind_of_item(item), item)

    @property
    def warnings(self) -> list[str]:
        return [f"{place}: {why}" for place, why in self._left_out.items()]

    def _add(self, place: str, kind: str, item: Item) -> None:
        if kind == "message":
            self._add_message(_message(place, role=item.get("role"), content=item.get("content")))
        elif kind == "reasoning":
            self._add_thoughts(place, item)
        elif kind in ("function_call", "custom_tool_call", "mcp_call") or kind in CLIENT_CALLS:
            self._add_call(place, kind, item)
        elif kind in CALL_OUTPUTS:
            # The output of a local shell has the id of its call.
            id = item.get("call_id") or item.get("id")
            self._add_result(place, id, item.get("output") or item.get("status"))
        elif kind == "compaction":
            self._add_summary(place, item)
        elif kind in LEFT_OUT:
            self._left_out[place] = f"{kind} was left out: this server has no such tool"
        else:
            raise BadRequest(f"{place}.type: {shown(kind)} is not supported")

    def _add_message(self, message: Message) -> None:
        last = self.messages[-1] if self.messages else None
        if message.role == "assistant" and last is not None and last.reasoning_content and not last.content:
            self.messages[-1] = replace(last, content=message.content)
        else:
            self.messages.append(message)

    def _add_thoughts(self, place: str, item: Item) -> None:
        content = item.get("content") or item.get("summary") or []
        thoughts = (
            unseal(item.get("encrypted_content")) if not content else _text(content, f"{place}.content")
        )
        if thoughts is None:
            self._left_out[place] = "this reasoning was left out: it is encrypted by another server"
        elif thoughts:
            self.messages.append(Message("assistant", "", reasoning_content=thoughts))

    def _add_summary(self, place: str, item: Item) -> None:
        summary = unseal(item.get("encrypted_content"))
        if summary is None:
            self._left_out[place] = "this compaction was left out: it is encrypted by another server"
        else:
            self.messages.append(Message("user", SUMMARY + summary))

    def _add_call(self, place: str, kind: str, item: Item) -> None:
        """Add to the assistant's message at the end, or begin one."""
        if not self.messages or self.messages[-1].role != "assistant":
            self.messages.append(Message("assistant", ""))
        id = item.get("call_id") or item.get("id")
        call = engine_call({"id": id, "function": _called(kind, item)}, place)
        last = self.messages[-1]
        self.messages[-1] = replace(last, tool_calls=[*(last.tool_calls or []), call])
        if kind == "mcp_call":
            self._add_result(place, id, item.get("output") or item.get("error"))

    def _add_result(self, place: str, id: Any, output: Any) -> None:
        plain = output is None or isinstance(output, str)
        parts = isinstance(output, list) and all(isinstance(one, dict) and "type" in one for one in output)
        content = output if plain or parts else _json(output)
        self.messages.append(_message(place, role="tool", tool_call_id=id, content=content))


def _message(place: str, **turn: Any) -> Message:
    try:
        return engine_message(parse(Turn, turn), place)
    except BadRequest as error:
        if error.message.startswith(("role", "content", "tool_call_id")):
            raise BadRequest(f"{place}.{error.message}") from None
        raise


def _called(kind: str, item: Item) -> dict[str, Any]:
    """The function that a call names, and its arguments."""
    if kind in CLIENT_CALLS:
        name, field = CLIENT_CALLS[kind]
        return {"name": name, "arguments": _json(item.get(field) or {})}
    called: Any = item.get("name")
    namespace = item.get("namespace")
    if isinstance(namespace, str) and namespace and isinstance(called, str):
        called = flat_name(namespace, called)
    if kind == "custom_tool_call":
        return {"name": called, "arguments": _json({"input": item.get("input") or ""})}
    return {"name": called, "arguments": item.get("arguments")}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _text(content: Any, place: str) -> str:
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise BadRequest(f"{place}: a list of parts with text is needed")
    return "".join(map(str, texts))


def listed(item: Item) -> Item:
    """An input item as it is stored and listed: with an id, and its content as parts."""
    kind = kind_of_item(item)
    id = item.get("id")
    whole = {
        **item,
        "type": kind,
        "id": id if isinstance(id, str) and id else f"{PREFIXES.get(kind, 'item')}_{uuid.uuid4().hex}",
    }
    if kind not in ("reasoning", "compaction"):
        whole["status"] = item.get("status") or "completed"
    if kind == "message":
        own = item.get("role") == "assistant"
        content = item.get("content")
        parts = [{"text": content}] if isinstance(content, str) else content or []
        whole["content"] = [_part(part, "output_text" if own else "input_text") for part in parts]
    elif kind == "reasoning":
        whole["summary"] = item.get("summary") or []
    return whole


def _part(part: dict[str, Any], text: str) -> dict[str, Any]:
    kind = part.get("type")
    part = {**part, "type": text if kind in (None, "text") else kind}
    if part["type"] == "output_text":
        part = {"annotations": [], "logprobs": [], **part}
    return part
