"""/v1/responses: the deltas of a chat as output items and as events of a stream."""

import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, Literal

from msgspec.structs import replace

from runner.api.lease import sse
from runner.api.logprobs import TokenLogprob
from runner.api.openai.chat_stream import ChatAnswer, ChoiceDelta
from runner.api.openai.errors import openai_error
from runner.api.openai.responses import Responses
from runner.api.openai.responses_schemas import (
    CallItem,
    Effort,
    Incomplete,
    InputDetails,
    Item,
    MessageItem,
    OutputDetails,
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
        async with aclosing(self._chat.deltas()) as deltas:
            async for _, delta in deltas:
                if not self._sequence:
                    yield self._event("response.created", {"response": self._response("in_progress")})
                    yield self._event("response.in_progress", {"response": self._response("in_progress")})
                for name, fields in self._output.add(delta):
                    yield self._event(name, fields)
                finish = delta.finish or finish
        status = _status(finish)
        for name, fields in self._output.close(status):
            yield self._event(name, fields)
        yield self._event(f"response.{status}", {"response": self._response(status)})

    async def whole(self) -> Response:
        finish = ""
        async with aclosing(self._chat.deltas()) as deltas:
            async for _, delta in deltas:
                for _event in self._output.add(delta):
                    continue
                finish = delta.finish or finish
        status = _status(finish)
        for _event in self._output.close(status):
            continue
        return self._response(status)

    def last(self, error: DiptychError) -> bytes:
        """The event for an error after the first event."""
        failure = openai_error(error).error
        fields = {"code": failure.code, "message": failure.message, "param": failure.param}
        return self._event("error", fields)

    def _event(self, name: str, fields: dict[str, Any]) -> bytes:
        self._sequence += 1
        return sse({"type": name, "sequence_number": self._sequence - 1, **fields}, name)

    def _response(self, status: Status) -> Response:
        request = self._responses.request
        tools = [
            {"strict": None, "parameters": None, "description": None, **tool} for tool in request.tools or []
        ]
        return Response(
            id=self._id,
            created_at=self._created,
            status=status,
            incomplete_details=Incomplete() if status == "incomplete" else None,
            instructions=request.instructions,
            max_output_tokens=request.max_output_tokens,
            metadata=request.metadata or {},
            model=request.model,
            output=self._output.items,
            parallel_tool_calls=request.parallel_tool_calls is not False,
            reasoning=Effort(request.reasoning.effort if request.reasoning else None),
            temperature=1.0 if request.temperature is None else request.temperature,
            text={"format": _shown_format(self._responses)},
            tool_choice="auto" if request.tool_choice is None else request.tool_choice,
            tools=tools,
            top_p=1.0 if request.top_p is None else request.top_p,
            usage=None if status == "in_progress" else self._usage(),
        )

    def _usage(self) -> ResponseUsage:
        usage = self._chat.usage()
        return ResponseUsage(
            usage.prompt_tokens,
            InputDetails(usage.prompt_tokens_details.cached_tokens),
            usage.completion_tokens,
            OutputDetails(usage.completion_tokens_details.reasoning_tokens),
            usage.total_tokens,
        )


def _status(finish: str) -> Ended:
    return "incomplete" if finish == "length" else "completed"


def _shown_format(responses: Responses) -> dict[str, Any]:
    format = responses.request.text.format
    if format is None or format.type != "json_schema":
        return {"type": "text" if format is None else format.type}
    return {"type": "json_schema", "name": format.name or "", "schema": format.definition, "strict": True}
