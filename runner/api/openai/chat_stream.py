"""/v1/chat/completions: events as chunks of a stream, or as a single response."""

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from msgspec import UNSET

from runner.api.lease import leased, side_by_side, sse
from runner.api.logprobs import TokenLogprob, without_id
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
from runner.api.openai.tools import openai_call
from runner.gateway.app import Gateway
from runner.gateway.proxy import keep_alive_seconds
from runner.protocol.events import TextEvent
from runner.protocol.text import TextChunk, TextDone
from runner.sources import ModelMode

DONE = b"data: [DONE]\n\n"


@dataclass
class ChoiceDelta:
    """What one event adds to a choice."""

    content: str = ""
    thinking: str = ""
    calls: list[Call] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: Finish | None = None


class ChoiceReader:
    """Reads the events of one choice, in order."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._calls = 0
        self._pending: list[TokenLogprob] = []
        self._thought = False
        self.thoughts = 0  # tokens
        self.done: TextDone | None = None

    def read(self, event: TextEvent) -> ChoiceDelta:
        calls = event.tool_calls or []
        if self._chat.one_call:
            calls = calls[: max(0, 1 - self._calls)]
        self._calls += len(calls)
        delta = ChoiceDelta(event.content or "", event.thinking or "", [openai_call(call) for call in calls])
        delta.logprobs = self._logprobs(event, delta)
        if isinstance(event, TextDone):
            self.done = event
            delta.logprobs, self._pending = delta.logprobs + self._pending, []
            delta.finish = "length" if event.done_reason else "tool_calls" if self._calls else "stop"
        else:
            self.thoughts += self._thought
        return delta

    def _logprobs(self, event: TextEvent, delta: ChoiceDelta) -> list[TokenLogprob]:
        """The log probabilities of the answer's tokens. A token without text may belong to the text that follows, so it
        is held back."""
        if delta.thinking or delta.calls:
            self._thought = bool(delta.thinking)
            self._pending = []
            return []
        if delta.content:
            self._thought = False
        if not self._thought and isinstance(event, TextChunk) and event.logprobs:
            self._pending += map(without_id, event.logprobs)
        if not delta.content:
            return []
        ready, self._pending = self._pending, []
        return ready


class ChatAnswer:
    def __init__(self, gateway: Gateway, chat: Chat, id: str) -> None:
        self._gateway = gateway
        self._chat = chat
        self._id = id
        self._keep_alive = keep_alive_seconds(chat.request.keep_alive)
        self._head = (f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), chat.request.model)
        self._readers = [ChoiceReader(chat) for _ in range(chat.request.n or 1)]

    async def deltas(self) -> AsyncGenerator[tuple[int, ChoiceDelta], None]:
        """The delta of each event, with the index of its choice."""
        model = self._chat.request.model
        requests = self._chat.engine_requests()
        async with (
            leased(self._gateway, model, ModelMode.TEXT, self._keep_alive, self._id) as lease,
            aclosing(side_by_side(lease, requests, self._id)) as events,
        ):
            async for index, event in events:
                yield index, self._readers[index].read(event)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        begun: set[int] = set()
        calls = [0] * len(self._readers)
        async with aclosing(self.deltas()) as deltas:
            async for index, delta in deltas:
                if index not in begun:
                    begun.add(index)
                    yield self._chunk(ChunkChoice(index, Delta("assistant", "")))
                chunk = _chunk_delta(delta, calls[index])
                calls[index] += len(delta.calls)
                if chunk != Delta() or delta.logprobs:
                    logprobs = Logprobs(delta.logprobs) if delta.logprobs else None
                    yield self._chunk(ChunkChoice(index, chunk, logprobs))
                if delta.finish:
                    yield self._chunk(ChunkChoice(index, Delta(), finish_reason=delta.finish))
        if self._chat.request.usage_streamed:
            yield sse(ChatChunk(*self._head, choices=[], usage=self.usage()))
        yield DONE

    def _chunk(self, choice: ChunkChoice) -> bytes:
        usage = None if self._chat.request.usage_streamed else UNSET
        return sse(ChatChunk(*self._head, choices=[choice], usage=usage))

    async def whole(self) -> ChatCompletion:
        sums = [ChoiceDelta() for _ in self._readers]
        async with aclosing(self.deltas()) as deltas:
            async for index, delta in deltas:
                whole = sums[index]
                whole.content += delta.content
                whole.thinking += delta.thinking
                whole.calls += delta.calls
                whole.logprobs += delta.logprobs
                whole.finish = delta.finish
        choices = [self._choice(index, whole) for index, whole in enumerate(sums)]
        return ChatCompletion(*self._head, choices=choices, usage=self.usage())

    def _choice(self, index: int, whole: ChoiceDelta) -> Choice:
        logprobs = Logprobs(whole.logprobs) if self._chat.request.logprobs else None
        return Choice(index, _message(whole), logprobs, whole.finish or "stop")

    def usage(self) -> Usage:
        done = [reader.done for reader in self._readers if reader.done is not None]
        return usage(done, sum(reader.thoughts for reader in self._readers))


def _chunk_delta(delta: ChoiceDelta, calls_before: int) -> Delta:
    calls = [
        CallDelta(call.id, call.function, index=index)
        for index, call in enumerate(delta.calls, start=calls_before)
    ]
    return Delta(
        content=delta.content or UNSET,
        reasoning_content=delta.thinking or UNSET,
        tool_calls=calls or UNSET,
    )


def _message(whole: ChoiceDelta) -> Message:
    content = None if whole.calls and not whole.content else whole.content
    return Message(content, whole.thinking or UNSET, whole.calls or UNSET)
