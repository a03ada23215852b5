"""The deltas of a chat as output items, and as events of a stream."""

import uuid
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from runner.api.logprobs import TokenLogprob
from runner.api.openai.chat_stream import ChoiceDelta
from runner.api.openai.schemas import CallDelta
from runner.api.openai.tool_types import Tools, custom_input
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

NamedEvent = tuple[str, dict[str, Any]]  # the name and the fields
Ended = Literal["completed", "incomplete"]
ARGUMENTS = "response.function_call_arguments"
INPUT = "response.custom_tool_call_input"


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


class Output:
    """The output items as they grow. Every change produces a few events."""

    def __init__(self, tools: Tools | None = None, encrypt: bool = False, held: str | None = None) -> None:
        """`encrypt`: thoughts also as `encrypted_content`. `held`: the content is the input of this tool."""
        self.items: list[Item] = []
        self._tools = tools or Tools()
        self._encrypt = encrypt
        self._held = held
        self._arguments = ""  # of the current call, as JSON

    def add(self, delta: ChoiceDelta) -> Iterator[NamedEvent]:
        if delta.thinking:
            yield from self._think(delta.thinking)
        if delta.content and self._held is not None:
            yield from self._put(delta.content, self._held)
        elif delta.content:
            yield from self._say(delta.content, delta.logprobs)
        for call in delta.call_deltas:
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

    def _put(self, text: str, tool: str) -> Iterator[NamedEvent]:
        """Add to the input of a tool."""
        item = self._open
        if not isinstance(item, CustomCallItem):
            yield from self.close()
            called = self._called(f"call_{uuid.uuid4().hex[:24]}", tool)
            assert isinstance(called, CustomCallItem)
            item = called
            yield self._added(item, replace(item))
        item.input += text
        yield f"{INPUT}.delta", {**self._at(item), "delta": text}

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
        if isinstance(item, CallItem | CustomCallItem):
            yield from self._close_call(item, status)
        elif item is not None:
            yield from self._close_text(item, status)

    def _close_text(self, item: MessageItem | ReasoningItem, status: Ended) -> Iterator[NamedEvent]:
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

    def _close_call(self, item: CallItem | CustomCallItem, status: Ended) -> Iterator[NamedEvent]:
        """A call whose arguments are complete is complete, even if the answer is not."""
        item.status = "completed" if _is_json(self._arguments) else status
        place = self._at(item)
        if isinstance(item, CallItem):
            yield f"{ARGUMENTS}.done", {**place, "arguments": item.arguments}
        elif self._held is not None:
            item.status = status
            yield f"{INPUT}.done", {**place, "input": item.input}
        else:
            # What it is given is known once its JSON is.
            item.input = custom_input(self._arguments)
            yield f"{INPUT}.delta", {**place, "delta": item.input}
            yield f"{INPUT}.done", {**place, "input": item.input}
        yield self._done(item)

    def _done(self, item: Item) -> NamedEvent:
        return "response.output_item.done", {"output_index": len(self.items) - 1, "item": item}

    def _call(self, delta: CallDelta) -> Iterator[NamedEvent]:
        function = delta.function
        if isinstance(delta.id, str) and isinstance(function.name, str):
            yield from self.close()
            self._arguments = ""
            item = self._called(delta.id, function.name)
            yield self._added(item, replace(item))
        arguments = function.arguments or ""
        self._arguments += arguments
        call = self._open
        if isinstance(call, CallItem) and arguments:
            call.arguments = self._arguments
            yield f"{ARGUMENTS}.delta", {**self._at(call), "delta": arguments}

    def _called(self, id: str, flat: str) -> CallItem | CustomCallItem:
        """The call as the client named its tool."""
        namespace, name = self._tools.namespaces.get(flat, (UNSET, flat))
        if flat in self._tools.custom:
            return CustomCallItem(new_id("ctc"), id, name, "", namespace=namespace)
        return CallItem(new_id("fc"), id, name, "", namespace=namespace)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return True


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
