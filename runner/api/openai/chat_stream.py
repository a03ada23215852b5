"""/v1/chat/completions: events as chunks of a stream, or as a single response."""

import time
import uuid
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import dataclass, field

from msgspec import UNSET, UnsetType

from runner.api.lease import leased, side_by_side, sse
from runner.api.logprobs import TokenLogprob, without_id
from runner.api.openai.call_reader import CallReader
from runner.api.openai.chat import Chat
from runner.api.openai.custom_calls import CallStream, any_call
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
    calls: list[Call] = field(default_factory=list)  # that are complete, or were cut
    call_deltas: list[CallDelta] = field(default_factory=list)  # the same calls, while they are written
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: Finish | None = None


class ChoiceReader:
    """Reads the events of one choice, in order."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._calls = CallReader(chat.one_call)
        self._pending: list[TokenLogprob] = []
        self._thought = False
        self.thoughts = 0  # tokens
        self.done: TextDone | None = None

    def read(self, event: TextEvent) -> ChoiceDelta:
        delta = ChoiceDelta(event.content or "", event.thinking or "")
        delta.call_deltas = self._calls.read(event)
        delta.calls = self._calls.complete(isinstance(event, TextDone))
        delta.logprobs = self._logprobs(event, delta)
        if isinstance(event, TextDone):
            self.done = event
            delta.logprobs, self._pending = delta.logprobs + self._pending, []
            delta.finish = "length" if event.done_reason else "tool_calls" if self._calls.count else "stop"
        else:
            self.thoughts += self._thought
        return delta

    @property
    def warnings(self) -> list[str] | UnsetType:
        """What in the request was ignored or done differently, once the answer is complete."""
        warnings = self._chat.toolbox.warnings + (self.done.warnings or [] if self.done else [])
        return warnings or UNSET

    def _logprobs(self, event: TextEvent, delta: ChoiceDelta) -> list[TokenLogprob]:
        """The log probabilities of the answer's tokens. A token without text may belong to the text that follows, so it
        is held back."""
        if delta.thinking or delta.call_deltas:
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
            leased(self._gateway, model, ModelMode.TEXT, self._keep_alive, self._id, requests[0]) as lease,
            aclosing(side_by_side(lease, requests, self._id)) as events,
        ):
            async for index, event in events:
                yield index, self._readers[index].read(event)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        begun: set[int] = set()
        calls = [CallStream(self._chat.custom_tools) for _ in self._readers]
        async with aclosing(self.deltas()) as deltas:
            async for index, delta in deltas:
                if index not in begun:
                    begun.add(index)
                    yield self._chunk(ChunkChoice(index, Delta("assistant", "")))
                chunk = _chunk_delta(delta, calls[index])
                if chunk != Delta() or delta.logprobs:
                    logprobs = Logprobs(delta.logprobs) if delta.logprobs else None
                    yield self._chunk(ChunkChoice(index, chunk, logprobs))
                if delta.finish:
                    last = ChunkChoice(index, Delta(), finish_reason=delta.finish)
                    yield self._chunk(last, self._readers[index].warnings)
        if self._chat.request.usage_streamed:
            yield sse(ChatChunk(*self._head, choices=[], usage=self.usage()))
        yield DONE

    def _chunk(self, choice: ChunkChoice, warnings: list[str] | UnsetType = UNSET) -> bytes:
        usage = None if self._chat.request.usage_streamed else UNSET
        return sse(ChatChunk(*self._head, choices=[choice], usage=usage, warnings=warnings))

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
        return ChatCompletion(
            *self._head, choices=choices, usage=self.usage(), warnings=self._readers[0].warnings
        )

    def _choice(self, index: int, whole: ChoiceDelta) -> Choice:
        logprobs = Logprobs(whole.logprobs) if self._chat.request.logprobs else None
        return Choice(index, _message(whole, self._chat.custom_tools), logprobs, whole.finish or "stop")

    @property
    def warnings(self) -> list[str]:
        """What in the request was ignored or done differently, once the answer is complete."""
        return list(self._readers[0].warnings or [])

    def usage(self) -> Usage:
        done = [reader.done for reader in self._readers if reader.done is not None]
        return usage(done, sum(reader.thoughts for reader in self._readers))


def _chunk_delta(delta: ChoiceDelta, calls: CallStream) -> Delta:
    return Delta(
        content=delta.content or UNSET,
        reasoning_content=delta.thinking or UNSET,
        tool_calls=calls.pieces(delta.call_deltas, delta.calls) or UNSET,
    )


def _message(whole: ChoiceDelta, custom_tools: Collection[str]) -> Message:
    content = None if whole.calls and not whole.content else whole.content
    calls = [any_call(call, custom_tools) for call in whole.calls]
    return Message(content, whole.thinking or UNSET, calls or UNSET)
