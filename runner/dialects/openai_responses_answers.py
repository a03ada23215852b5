"""/v1/responses: a chat's pieces as output items, and as the events of a stream."""

import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

from runner.dialects.asking import sse
from runner.dialects.openai_chat_answers import ChatAnswer, Piece
from runner.dialects.openai_errors import shaped
from runner.dialects.openai_responses import Responses
from runner.errors import DiptychError
from runner.gateway.app import Gateway

Item = dict[str, Any]
Said = tuple[str, dict[str, Any]]  # an event's name, and its fields
# An item's part, and the names of its events, by the item's type.
PARTS = {"message": "output_text", "reasoning": "reasoning_text"}


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


class Output:
    """The items of an answer as they grow; every change is told as the events that it is."""

    def __init__(self) -> None:
        self.items: list[Item] = []

    def add(self, piece: Piece) -> Iterator[Said]:
        if piece.thinking:
            yield from self._grow("reasoning", piece.thinking, [])
        if piece.content:
            yield from self._grow("message", piece.content, piece.logprobs)
        for call in piece.calls:
            yield from self._call(call)

    @property
    def _open(self) -> Item | None:
        last = self.items[-1] if self.items else None
        return last if last is not None and last["status"] == "in_progress" else None

    def _at(self, item: Item, content: bool = True) -> dict[str, Any]:
        place = {"item_id": item["id"], "output_index": len(self.items) - 1}
        return {**place, "content_index": 0} if content else place

    def _grow(self, kind: str, text: str, logprobs: list[Any]) -> Iterator[Said]:
        item = self._open
        if item is None or item["type"] != kind:
            yield from self.close()
            item = _begun(kind)
            yield from self._added(item)
            yield "response.content_part.added", {**self._at(item), "part": _copy(item)["content"][0]}
        part = item["content"][0]
        part["text"] += text
        said = {**self._at(item), "delta": text}
        if kind == "message":
            part["logprobs"] += logprobs
            said["logprobs"] = logprobs
        yield f"response.{PARTS[kind]}.delta", said

    def close(self, status: str = "completed") -> Iterator[Said]:
        """End the item that is being written, if any."""
        item = self._open
        if item is None:
            return
        item["status"] = status
        part, kind = item["content"][0], PARTS[item["type"]]
        said = {**self._at(item), "text": part["text"]}
        yield f"response.{kind}.done", {**said, "logprobs": part["logprobs"]} if "logprobs" in part else said
        yield "response.content_part.done", {**self._at(item), "part": part}
        yield "response.output_item.done", {"output_index": len(self.items) - 1, "item": item}

    def _added(self, item: Item) -> Iterator[Said]:
        self.items.append(item)
        shown = {**item, "content": []} if "content" in item else {**item, "arguments": ""}
        yield "response.output_item.added", {"output_index": len(self.items) - 1, "item": shown}

    def _call(self, call: dict[str, Any]) -> Iterator[Said]:
        yield from self.close()
        item: Item = {
            "type": "function_call",
            "id": new_id("fc"),
            "call_id": call["id"],
            "name": call["function"]["name"],
            "arguments": call["function"]["arguments"],
            "status": "in_progress",
        }
        yield from self._added(item)
        place = self._at(item, content=False)
        yield "response.function_call_arguments.delta", {**place, "delta": item["arguments"]}
        done = {**place, "name": item["name"], "arguments": item["arguments"]}
        yield "response.function_call_arguments.done", done
        item["status"] = "completed"
        yield "response.output_item.done", {"output_index": len(self.items) - 1, "item": item}


def _begun(kind: str) -> Item:
    if kind == "message":
        part: Item = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        return {
            "type": kind,
            "id": new_id("msg"),
            "role": "assistant",
            "status": "in_progress",
            "content": [part],
        }
    part = {"type": "reasoning_text", "text": ""}
    return {"type": kind, "id": new_id("rs"), "summary": [], "status": "in_progress", "content": [part]}


def _copy(item: Item) -> Item:
    return {**item, "content": [dict(part) for part in item["content"]]}


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

    async def whole(self) -> dict[str, Any]:
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
        found = shaped(error)["error"]
        return self._event("error", {key: found[key] for key in ("code", "message", "param")})

    def _event(self, name: str, fields: dict[str, Any]) -> bytes:
        said = sse({"type": name, "sequence_number": self._sequence, **fields}, name)
        self._sequence += 1
        return said

    def _response(self, status: str) -> dict[str, Any]:
        asked = self._responses.asked
        tools = [
            {"strict": None, "parameters": None, "description": None, **tool} for tool in asked.tools or []
        ]
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {},
            "model": asked.model,
            "output": self._output.items,
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": asked.reasoning.effort if asked.reasoning else None, "summary": None},
            "store": False,
            "temperature": 1.0 if asked.temperature is None else asked.temperature,
            "text": {"format": _shown_format(self._responses)},
            "tool_choice": "auto" if asked.tool_choice is None else asked.tool_choice,
            "tools": tools,
            "top_p": 1.0 if asked.top_p is None else asked.top_p,
            "truncation": "disabled",
            "usage": None if status == "in_progress" else self._usage(),
        }

    def _usage(self) -> dict[str, Any]:
        found = self._chat.usage()
        return {
            "input_tokens": found["prompt_tokens"],
            "input_tokens_details": {**found["prompt_tokens_details"], "cache_write_tokens": 0},
            "output_tokens": found["completion_tokens"],
            "output_tokens_details": found["completion_tokens_details"],
            "total_tokens": found["total_tokens"],
        }


def _status(finish: str) -> str:
    return "incomplete" if finish == "length" else "completed"


def _shown_format(responses: Responses) -> dict[str, Any]:
    wanted = responses.asked.text.format
    if wanted is None or wanted.type != "json_schema":
        return {"type": "text" if wanted is None else wanted.type}
    return {"type": "json_schema", "name": wanted.name or "", "schema": wanted.definition, "strict": True}
