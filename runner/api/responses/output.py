"""The deltas of a chat as output items, and as events of a stream."""

import uuid
from collections.abc import Iterator
from typing import Any, Literal

from msgspec.structs import replace

from runner.api.logprobs import TokenLogprob
from runner.api.openai.chat_stream import ChoiceDelta
from runner.api.openai.schemas import Call
from runner.api.responses.schemas import (
    CallItem,
    Item,
    MessageItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
)

NamedEvent = tuple[str, dict[str, Any]]  # the name and the fields
Ended = Literal["completed", "incomplete"]


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


class Output:
    """The output items as they grow. Every change produces a few events."""

    def __init__(self) -> None:
        self.items: list[Item] = []

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
        return place if isinstance(item, CallItem) else {**place, "content_index": 0}

    def close(self, status: Ended = "completed") -> Iterator[NamedEvent]:
        """Finish the current item, if any."""
        item = self._open
        if item is None or isinstance(item, CallItem):
            return
        item.status = status
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
        item = CallItem(new_id("fc"), call.id, call.function.name, call.function.arguments)
        yield self._added(item, replace(item, arguments=""))
        place = self._at(item)
        yield "response.function_call_arguments.delta", {**place, "delta": item.arguments}
        yield "response.function_call_arguments.done", {**place, "arguments": item.arguments}
        item.status = "completed"
        yield self._done(item)


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
