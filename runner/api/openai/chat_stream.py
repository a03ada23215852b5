"""/v1/chat/completions: native events as chunks of a stream, or as one answer."""

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from msgspec import UNSET

from runner.api.lease import leased, side_by_side, sse
from runner.api.logprobs import TokenLogprob, logprob
from runner.api.openai.chat import Chat
from runner.api.openai.sampling import usage
from runner.api.openai.schemas import (
    Call,
    CallDelta,
    ChatChunk,
    ChatCompletion,
    Choice,
    ChunkChoice,
    Delta,
    Finish,
    Logprobs,
    Message,
    Usage,
)
from runner.api.openai.tools import call_shown
from runner.gateway.app import Gateway
from runner.gateway.proxy import keep_alive_seconds
from runner.process.supervisor import Event
from runner.sources import ModelMode

DONE = b"data: [DONE]\n\n"


@dataclass
class Piece:
    """What one event adds to a choice."""

    content: str = ""
    thinking: str = ""
    calls: list[Call] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: Finish | None = None


class ChoiceReader:
    """One choice's events, read in their order."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._calls = 0
        self._pending: list[TokenLogprob] = []
        self._thought = False
        self.thoughts = 0  # tokens
        self.done: Event | None = None

    def read(self, event: Event) -> Piece:
        content, thinking = event.get("content", ""), event.get("thinking", "")
        calls = event.get("tool_calls", [])
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

    def _logprobs(self, event: Event, piece: Piece) -> list[TokenLogprob]:
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


class ChatAnswer:
    def __init__(self, gateway: Gateway, chat: Chat, id: str) -> None:
        self._gateway = gateway
        self._chat = chat
        self._id = id
        self._keep_alive = keep_alive_seconds(chat.asked.keep_alive)
        self._head = (f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), chat.asked.model)
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
                    yield self._chunk(ChunkChoice(index, Delta("assistant", "")))
                delta = _delta(piece, calls[index])
                calls[index] += len(piece.calls)
                if delta != Delta() or piece.logprobs:
                    logprobs = Logprobs(piece.logprobs) if piece.logprobs else None
                    yield self._chunk(ChunkChoice(index, delta, logprobs))
                if piece.finish:
                    yield self._chunk(ChunkChoice(index, Delta(), finish_reason=piece.finish))
        if self._chat.asked.usage_streamed:
            yield sse(ChatChunk(*self._head, choices=[], usage=self.usage()))
        yield DONE

    def _chunk(self, choice: ChunkChoice) -> bytes:
        usage = None if self._chat.asked.usage_streamed else UNSET
        return sse(ChatChunk(*self._head, choices=[choice], usage=usage))

    async def whole(self) -> ChatCompletion:
        said = [Piece() for _ in self._readers]
        async with aclosing(self.pieces()) as pieces:
            async for index, piece in pieces:
                one = said[index]
                one.content += piece.content
                one.thinking += piece.thinking
                one.calls += piece.calls
                one.logprobs += piece.logprobs
                one.finish = piece.finish
        choices = [self._choice(index, piece) for index, piece in enumerate(said)]
        return ChatCompletion(*self._head, choices=choices, usage=self.usage())

    def _choice(self, index: int, piece: Piece) -> Choice:
        logprobs = Logprobs(piece.logprobs) if self._chat.asked.logprobs else None
        return Choice(index, _message(piece), logprobs, piece.finish or "stop")

    def usage(self) -> Usage:
        first, *more = [reader.done or {} for reader in self._readers]
        return usage(first, more, sum(reader.thoughts for reader in self._readers))


def _delta(piece: Piece, before: int) -> Delta:
    calls = [
        CallDelta(call.id, call.function, index=index) for index, call in enumerate(piece.calls, start=before)
    ]
    return Delta(
        content=piece.content or UNSET,
        reasoning_content=piece.thinking or UNSET,
        tool_calls=calls or UNSET,
    )


def _message(piece: Piece) -> Message:
    content = None if piece.calls and not piece.content else piece.content
    return Message(content, piece.thinking or UNSET, piece.calls or UNSET)
