"""/v1/chat/completions: native events as chunks of a stream, or as one answer."""

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from runner.dialects.asking import leased, side_by_side, sse
from runner.dialects.openai_chat import Chat
from runner.dialects.openai_sampling import usage
from runner.dialects.openai_tools import call_in, call_shown
from runner.gateway.app import Gateway
from runner.gateway.native import seconds
from runner.sources import ModelMode
from runner.supervisor import Event

DONE = b"data: [DONE]\n\n"


@dataclass
class Piece:
    """What one event adds to a choice."""

    content: str = ""
    thinking: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    finish: str | None = None


class ChoiceReader:
    """One choice's events, read in their order."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._must = ""  # of an answer that is one call, by its grammar
        self._calls = 0
        self._pending: list[dict[str, Any]] = []
        self._thought = False
        self.thoughts = 0  # tokens
        self.done: Event | None = None

    def read(self, event: Event) -> Piece:
        content, thinking = event.get("content", ""), event.get("thinking", "")
        calls = event.get("tool_calls", [])
        if self._chat.toolbox.must:
            self._must += content
            content = ""
            call = call_in(self._must) if event.get("done") else None
            calls = [call] if call else []
        if self._chat.one_call:
            calls = calls[: max(0, 1 - self._calls)]
        self._calls += len(calls)
        piece = Piece(content, thinking, [call_shown(call) for call in calls])
        piece.logprobs = self._logprobs(event, piece)
        self.thoughts += "token" in event and self._thought
        if event.get("done"):
            self.done = event
            piece.logprobs, self._pending = piece.logprobs + self._pending, []
            piece.finish = "length" if event["done_reason"] else "tool_calls" if self._calls else "stop"
        return piece

    def _logprobs(self, event: Event, piece: Piece) -> list[dict[str, Any]]:
        """Those of tokens that are said. One without text may belong to what comes next: it waits to see."""
        if piece.thinking or piece.calls:
            self._thought = bool(piece.thinking)
            self._pending = []
            return []
        if piece.content:
            self._thought = False
        found = [] if self._thought else [logprob(token) for token in event.get("logprobs") or []]
        self._pending += found
        if not piece.content:
            return []
        ready, self._pending = self._pending, []
        return ready


def logprob(token: dict[str, Any]) -> dict[str, Any]:
    """A native log probability without its id."""
    return {
        "token": token["token"],
        "logprob": token["logprob"],
        "bytes": token["bytes"],
        "top_logprobs": [
            {"token": other["token"], "logprob": other["logprob"], "bytes": other["bytes"]}
            for other in token["top_logprobs"]
        ],
    }


class ChatAnswer:
    def __init__(self, gateway: Gateway, chat: Chat, id: str) -> None:
        self._gateway = gateway
        self._chat = chat
        self._id = id
        self._keep_alive = seconds(chat.asked.keep_alive)
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": chat.asked.model,
        }
        self._readers = [ChoiceReader(chat) for _ in range(chat.asked.n or 1)]

    async def pieces(self) -> AsyncGenerator[tuple[int, Piece], None]:
        model = self._chat.asked.model
        natives = self._chat.natives()
        async with (
            leased(self._gateway, model, ModelMode.TEXT, self._keep_alive, self._id) as lease,
            aclosing(side_by_side(lease, natives, self._id)) as events,
        ):
            async for index, event in events:
                yield index, self._readers[index].read(event)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        begun: set[int] = set()
        calls = [0] * len(self._readers)
        async with aclosing(self.pieces()) as pieces:
            async for index, piece in pieces:
                if index not in begun:
                    begun.add(index)
                    yield self._chunk(index, {"role": "assistant", "content": ""})
                delta = _delta(piece, calls[index])
                calls[index] += len(piece.calls)
                if delta or piece.logprobs:
                    yield self._chunk(index, delta, piece.logprobs)
                if piece.finish:
                    yield self._chunk(index, {}, finish=piece.finish)
        if self._chat.asked.usage_streamed:
            yield sse({**self._head, "object": "chat.completion.chunk", "choices": [], "usage": self.usage()})
        yield DONE

    def _chunk(
        self, index: int, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None
    ) -> bytes:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
            "finish_reason": finish,
        }
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": [choice]}
        return sse({**chunk, "usage": None} if self._chat.asked.usage_streamed else chunk)

    async def whole(self) -> dict[str, Any]:
        said = [Piece() for _ in self._readers]
        async with aclosing(self.pieces()) as pieces:
            async for index, piece in pieces:
                one = said[index]
                one.content += piece.content
                one.thinking += piece.thinking
                one.calls += piece.calls
                one.logprobs += piece.logprobs
                one.finish = piece.finish
        choices = [
            {
                "index": index,
                "message": _message(piece),
                "logprobs": {"content": piece.logprobs, "refusal": None}
                if self._chat.asked.logprobs
                else None,
                "finish_reason": piece.finish,
            }
            for index, piece in enumerate(said)
        ]
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": self.usage()}

    def usage(self) -> dict[str, Any]:
        first, *more = [reader.done or {} for reader in self._readers]
        return usage(first, more, sum(reader.thoughts for reader in self._readers))


def _delta(piece: Piece, before: int) -> dict[str, Any]:
    delta: dict[str, Any] = {}
    if piece.thinking:
        delta["reasoning_content"] = piece.thinking
    if piece.content:
        delta["content"] = piece.content
    if piece.calls:
        delta["tool_calls"] = [
            {"index": index, **call} for index, call in enumerate(piece.calls, start=before)
        ]
    return delta


def _message(piece: Piece) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if piece.calls and not piece.content else piece.content,
        "refusal": None,
    }
    if piece.thinking:
        message["reasoning_content"] = piece.thinking
    if piece.calls:
        message["tool_calls"] = piece.calls
    return message
