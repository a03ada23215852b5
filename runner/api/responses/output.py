"""The deltas of a chat as output items, and as events of a stream."""

import uuid
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from runner.api.logprobs import TokenLogprob
from runner.api.openai.chat_stream import ChoiceDelta
from runner.api.openai.schemas import Call
from runner.api.responses.schemas import (
    CallItem,
    CustomCallItem,
    Item,
    MessageItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
)
from runner.api.responses.sealed import seal
from runner.api.responses.tools import Tools

NamedEvent = tuple[str, dict[str, Any]]  # the name and the fields
Ended = Literal["completed", "incomplete"]


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


class Output:
    """The output items as they grow. Every change produces a few events."""

    def __init__(self, tools: Tools | None = None, encrypt: bool = False) -> None:
        """`encrypt`: thoughts also as `encrypted_content`."""
        self.items: list[Item] = []
        self._tools = tools or Tools()
        self._encrypt = encrypt

    def add(self, delta: ChoiceDelta) -> Iterator[NamedEvent]:
        if delta.thinking:
            yield from self._think(delta.thinking)
        if delta.content:
            yield from self._say(delta.content, delta.logprobs)
        for call in delta.calls:
            yield from self._call(call)

    @property
    def _open(self) -> Item | None:
        last = self.items[-1] if self.items else None
        return last if last is not None and last.status == "in_progress" else None

    def _think(self, text: str) -> Iterator[NamedEvent]:
        item = self._open
        if not isinstance(item, ReasoningItem):
            yield from self.close()
            item = ReasoningItem(new_id("rs"), [ReasoningText()])
            yield from self._begin(item)
        item.content[0].text += text
        yield "response.reasoning_text.delta", {**self._at(item), "delta": text}

    def _say(self, text: str, logprobs: list[TokenLogprob]) -> Iterator[NamedEvent]:
        item = self._open
        if not isinstance(item, MessageItem):
            yield from self.close()
            item = MessageItem(new_id("msg"), [OutputText()])
            yield from self._begin(item)
        item.content[0].text += text
        item.content[0].logprobs += logprobs
        fields = {"delta": text, "logprobs": _event_logprobs(logprobs)}
        yield "response.output_text.delta", {**self._at(item), **fields}

    def _begin(self, item: MessageItem | ReasoningItem) -> Iterator[NamedEvent]:
        yield self._added(item, replace(item, content=[]))
        yield "response.content_part.added", {**self._at(item), "part": item.content[0]}

    def _added(self, item: Item, initial: Item) -> NamedEvent:
        self.items.append(item)
        return "response.output_item.added", {"output_index": len(self.items) - 1, "item": initial}

    def _at(self, item: Item) -> dict[str, Any]:
        place = {"item_id": item.id, "output_index": len(self.items) - 1}
        calls = isinstance(item, CallItem | CustomCallItem)
        return place if calls else {**place, "content_index": 0}

    def close(self, status: Ended = "completed") -> Iterator[NamedEvent]:
        """Finish the current item, if any."""
        item = self._open
        if item is None or isinstance(item, CallItem | CustomCallItem):
            return
        item.status = status
        if isinstance(item, ReasoningItem) and self._encrypt:
            item.encrypted_content = seal(item.content[0].text)
        (part,) = item.content
        fields = {**self._at(item), "text": part.text}
        if isinstance(part, OutputText):
            yield "response.output_text.done", {**fields, "logprobs": _event_logprobs(part.logprobs)}
        else:
            yield "response.reasoning_text.done", fields
        yield "response.content_part.done", {**self._at(item), "part": part}
        yield self._done(item)

    def _done(self, item: Item) -> NamedEvent:
        return "response.output_item.done", {"output_index": len(self.items) - 1, "item": item}

    def _call(self, call: Call) -> Iterator[NamedEvent]:
        yield from self.close()
        item = self._called(call)
        if isinstance(item, CustomCallItem):
            name, field, text = "response.custom_tool_call_input", "input", item.input
        else:
            name, field, text = "response.function_call_arguments", "arguments", item.arguments
        yield self._added(item, replace(item, **{field: ""}))
        place = self._at(item)
        yield f"{name}.delta", {**place, "delta": text}
        yield f"{name}.done", {**place, field: text}
        item.status = "completed"
        yield self._done(item)

    def _called(self, call: Call) -> CallItem | CustomCallItem:
        """The call as the client named its tool."""
        flat, arguments = call.function.name, call.function.arguments
        namespace, name = self._tools.namespaces.get(flat, (UNSET, flat))
        if flat in self._tools.custom:
            return CustomCallItem(new_id("ctc"), call.id, name, custom_input(arguments), namespace=namespace)
        return CallItem(new_id("fc"), call.id, name, arguments, namespace=namespace)


def custom_input(arguments: str) -> str:
    """What a custom tool is given. Models may put it elsewhere than they were told to."""
    try:
        value = msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return arguments
    if isinstance(value, dict):
        if isinstance(value.get("input"), str):
            return str(value["input"])
        if len(value) == 1 and isinstance(text := next(iter(value.values())), str):
            return text
    return arguments


def _event_logprobs(logprobs: list[TokenLogprob]) -> list[dict[str, Any]]:
    """Without the bytes, which only items have."""
    return [
        {
            "token": one.token,
            "logprob": one.logprob,
            "top_logprobs": [{"token": other.token, "logprob": other.logprob} for other in one.top_logprobs],
        }
        for one in logprobs
    ]
