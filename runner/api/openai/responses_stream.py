"""/v1/responses: a chat's pieces as output items, and as the events of a stream."""

import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, Literal

from msgspec.structs import replace

from runner.api.lease import sse
from runner.api.logprobs import TokenLogprob
from runner.api.openai.chat_stream import ChatAnswer, Piece
from runner.api.openai.errors import shaped
from runner.api.openai.responses import Responses
from runner.api.openai.responses_schemas import (
    CallItem,
    Effort,
    Incomplete,
    InputDetails,
    Item,
    MessageItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    Response,
    ResponseUsage,
    Status,
)
from runner.api.openai.schemas import Call
from runner.errors import DiptychError
from runner.gateway.app import Gateway

Said = tuple[str, dict[str, Any]]  # an event's name, and its fields
Ended = Literal["completed", "incomplete"]


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


class Output:
    """The items of an answer as they grow; every change is told as the events that it is."""

    def __init__(self) -> None:
        self.items: list[Item] = []

    def add(self, piece: Piece) -> Iterator[Said]:
        if piece.thinking:
            yield from self._think(piece.thinking)
        if piece.content:
            yield from self._say(piece.content, piece.logprobs)
        for call in piece.calls:
            yield from self._call(call)

    @property
    def _open(self) -> Item | None:
        last = self.items[-1] if self.items else None
        return last if last is not None and last.status == "in_progress" else None

    def _think(self, text: str) -> Iterator[Said]:
        item = self._open
        if not isinstance(item, ReasoningItem):
            yield from self.close()
            item = ReasoningItem(new_id("rs"), [ReasoningText()])
            yield from self._begin(item)
        item.content[0].text += text
        yield "response.reasoning_text.delta", {**self._at(item), "delta": text}

    def _say(self, text: str, logprobs: list[TokenLogprob]) -> Iterator[Said]:
        item = self._open
        if not isinstance(item, MessageItem):
            yield from self.close()
            item = MessageItem(new_id("msg"), [OutputText()])
            yield from self._begin(item)
        item.content[0].text += text
        item.content[0].logprobs += logprobs
        told = {"delta": text, "logprobs": _told(logprobs)}
        yield "response.output_text.delta", {**self._at(item), **told}

    def _begin(self, item: MessageItem | ReasoningItem) -> Iterator[Said]:
        yield self._added(item, replace(item, content=[]))
        yield "response.content_part.added", {**self._at(item), "part": item.content[0]}

    def _added(self, item: Item, shown: Item) -> Said:
        self.items.append(item)
        return "response.output_item.added", {"output_index": len(self.items) - 1, "item": shown}

    def _at(self, item: Item) -> dict[str, Any]:
        place = {"item_id": item.id, "output_index": len(self.items) - 1}
        return place if isinstance(item, CallItem) else {**place, "content_index": 0}

    def close(self, status: Ended = "completed") -> Iterator[Said]:
        """End the item that is being written, if any."""
        item = self._open
        if item is None or isinstance(item, CallItem):
            return
        item.status = status
        (part,) = item.content
        said = {**self._at(item), "text": part.text}
        if isinstance(part, OutputText):
            yield "response.output_text.done", {**said, "logprobs": _told(part.logprobs)}
        else:
            yield "response.reasoning_text.done", said
        yield "response.content_part.done", {**self._at(item), "part": part}
        yield self._done(item)

    def _done(self, item: Item) -> Said:
        return "response.output_item.done", {"output_index": len(self.items) - 1, "item": item}

    def _call(self, call: Call) -> Iterator[Said]:
        yield from self.close()
        item = CallItem(new_id("fc"), call.id, call.function.name, call.function.arguments)
        yield self._added(item, replace(item, arguments=""))
        place = self._at(item)
        yield "response.function_call_arguments.delta", {**place, "delta": item.arguments}
        yield "response.function_call_arguments.done", {**place, "arguments": item.arguments}
        item.status = "completed"
        yield self._done(item)


def _told(logprobs: list[TokenLogprob]) -> list[dict[str, Any]]:
    """As events have them: without the bytes, which items have."""
    return [
        {
            "token": one.token,
            "logprob": one.logprob,
            "top_logprobs": [{"token": other.token, "logprob": other.logprob} for other in one.top_logprobs],
        }
        for one in logprobs
    ]


class ResponsesAnswer:
    def __init__(self, gateway: Gateway, responses: Responses, id: str) -> None:
        self._responses = responses
        self._chat = ChatAnswer(gateway, responses.chat, id)
        self._output = Output()
        self._sequence = 0
        self._id = new_id("resp")
        self._created = int(time.time())

    async def stream(self) -> AsyncGenerator[bytes, None]:
        finish = ""
        async with aclosing(self._chat.pieces()) as pieces:
            async for _, piece in pieces:
                if not self._sequence:
                    yield self._event("response.created", {"response": self._response("in_progress")})
                    yield self._event("response.in_progress", {"response": self._response("in_progress")})
                for name, fields in self._output.add(piece):
                    yield self._event(name, fields)
                finish = piece.finish or finish
        status = _status(finish)
        for name, fields in self._output.close(status):
            yield self._event(name, fields)
        yield self._event(f"response.{status}", {"response": self._response(status)})

    async def whole(self) -> Response:
        finish = ""
        async with aclosing(self._chat.pieces()) as pieces:
            async for _, piece in pieces:
                for _event in self._output.add(piece):
                    continue
                finish = piece.finish or finish
        status = _status(finish)
        for _event in self._output.close(status):
            continue
        return self._response(status)

    def last(self, error: DiptychError) -> bytes:
        """The event of what went wrong after the first one."""
        found = shaped(error).error
        return self._event("error", {"code": found.code, "message": found.message, "param": found.param})

    def _event(self, name: str, fields: dict[str, Any]) -> bytes:
        said = sse({"type": name, "sequence_number": self._sequence, **fields}, name)
        self._sequence += 1
        return said

    def _response(self, status: Status) -> Response:
        asked = self._responses.asked
        tools = [
            {"strict": None, "parameters": None, "description": None, **tool} for tool in asked.tools or []
        ]
        return Response(
            id=self._id,
            created_at=self._created,
            status=status,
            incomplete_details=Incomplete() if status == "incomplete" else None,
            instructions=asked.instructions,
            max_output_tokens=asked.max_output_tokens,
            metadata=asked.metadata or {},
            model=asked.model,
            output=self._output.items,
            parallel_tool_calls=asked.parallel_tool_calls is not False,
            reasoning=Effort(asked.reasoning.effort if asked.reasoning else None),
            temperature=1.0 if asked.temperature is None else asked.temperature,
            text={"format": _shown_format(self._responses)},
            tool_choice="auto" if asked.tool_choice is None else asked.tool_choice,
            tools=tools,
            top_p=1.0 if asked.top_p is None else asked.top_p,
            usage=None if status == "in_progress" else self._usage(),
        )

    def _usage(self) -> ResponseUsage:
        found = self._chat.usage()
        return ResponseUsage(
            found.prompt_tokens,
            InputDetails(found.prompt_tokens_details.cached_tokens),
            found.completion_tokens,
            found.completion_tokens_details,
            found.total_tokens,
        )


def _status(finish: str) -> Ended:
    return "incomplete" if finish == "length" else "completed"


def _shown_format(responses: Responses) -> dict[str, Any]:
    wanted = responses.asked.text.format
    if wanted is None or wanted.type != "json_schema":
        return {"type": "text" if wanted is None else wanted.type}
    return {"type": "json_schema", "name": wanted.name or "", "schema": wanted.definition, "strict": True}
