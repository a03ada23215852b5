"""/v1/messages: the engine's events as content blocks of a message, and as events of a stream."""

import base64
import hashlib
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict

from runner.api.anthropic.errors import anthropic_error
from runner.api.anthropic.requests import CLEAR_THINKING, Messages
from runner.api.anthropic.schemas import (
    AppliedEdit,
    AppliedEdits,
    Block,
    ContentBlockDelta,
    ContentBlockStart,
    ContentBlockStop,
    DeltaUsage,
    InputJsonDelta,
    Message,
    MessageDelta,
    MessageStart,
    MessageStop,
    OutputDetails,
    Ping,
    SignatureDelta,
    Stop,
    StopReason,
    StreamEvent,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolUseBlock,
    Usage,
)
from runner.api.lease import ask, leased, sse
from runner.errors import DiptychError
from runner.gateway.app import Gateway
from runner.gateway.lease import Lease
from runner.gateway.schemas import Tokens
from runner.protocol.events import TextEvent
from runner.protocol.text import CallDelta, TextChunk, TextDone, TokenizeRequest
from runner.sources import ModelMode


class Output:
    """The content blocks as they grow. Every change produces a few events."""

    def __init__(self, *, one_call: bool, hides_thoughts: bool) -> None:
        self.blocks: list[Block] = []
        self.thinking_tokens = 0
        self._one_call = one_call
        self._hides_thoughts = hides_thoughts
        self._open = False
        self._digest = hashlib.sha256()
        self._calls = 0
        self._arguments = ""  # of the current call, as JSON
        self.warnings: list[str] = []

    @property
    def called(self) -> bool:
        return self._calls > 0

    def add(self, event: TextEvent) -> Iterator[StreamEvent]:
        if event.thinking:
            yield from self._think(event.thinking)
        if event.content:
            yield from self._say(event.content)
        for delta in event.call_deltas or []:
            if not (self._one_call and delta.index):
                yield from self._call(delta)
        if isinstance(event, TextChunk) and self._open and isinstance(self.blocks[-1], ThinkingBlock):
            self.thinking_tokens += 1

    def _think(self, text: str) -> Iterator[StreamEvent]:
        block = self.blocks[-1] if self._open else None
        if not isinstance(block, ThinkingBlock):
            block = ThinkingBlock()
            self._digest = hashlib.sha256()
            yield from self._begin(block, ThinkingBlock())
        self._digest.update(text.encode())
        if not self._hides_thoughts:
            block.thinking += text
            yield ContentBlockDelta(len(self.blocks) - 1, ThinkingDelta(text))

    def _say(self, text: str) -> Iterator[StreamEvent]:
        block = self.blocks[-1] if self._open else None
        if not isinstance(block, TextBlock):
            block = TextBlock()
            yield from self._begin(block, TextBlock())
        block.text += text
        yield ContentBlockDelta(len(self.blocks) - 1, TextDelta(text))

    def _call(self, delta: CallDelta) -> Iterator[StreamEvent]:
        if delta.index == self._calls:
            call = ToolUseBlock(new_id("toolu"), delta.name, {})
            yield from self._begin(call, ToolUseBlock(call.id, call.name, {}))
            self._calls, self._arguments = self._calls + 1, ""
        self._arguments += delta.arguments
        if delta.arguments:
            yield ContentBlockDelta(len(self.blocks) - 1, InputJsonDelta(delta.arguments))

    def _begin(self, block: Block, initial: Block) -> Iterator[StreamEvent]:
        yield from self.close()
        self.blocks.append(block)
        self._open = True
        yield ContentBlockStart(len(self.blocks) - 1, initial)

    def close(self) -> Iterator[StreamEvent]:
        """Finish the current block, if any."""
        if not self._open:
            return
        self._open = False
        block, index = self.blocks[-1], len(self.blocks) - 1
        if isinstance(block, ThinkingBlock):
            # Clients send thoughts back with their signature, and leave out those without one.
            block.signature = base64.b64encode(self._digest.digest()).decode()
            yield ContentBlockDelta(index, SignatureDelta(block.signature))
        if isinstance(block, ToolUseBlock):
            block.input = self._read_arguments(block.name)
        yield ContentBlockStop(index)

    def _read_arguments(self, name: str) -> dict[str, Any]:
        try:
            return msgspec.json.decode(self._arguments or "{}", type=dict[str, Any])
        except msgspec.DecodeError:
            self.warnings.append(
                f"the call of {name[:64]} was cut: its input is not complete JSON and was left out"
            )
            return {}


class MessageAnswer:
    def __init__(self, gateway: Gateway, messages: Messages, id: str) -> None:
        self._gateway = gateway
        self._messages = messages
        self._id = id
        self._message_id = new_id("msg")
        self._output = Output(one_call=messages.one_call, hides_thoughts=messages.hides_thoughts)
        self._done: TextDone | None = None
        self._edits: AppliedEdits | UnsetType = UNSET

    async def _events(self) -> AsyncGenerator[TextEvent, None]:
        messages = self._messages
        request = messages.text()
        async with leased(
            self._gateway, messages.request.model, ModelMode.TEXT, messages.keep_alive, self._id, request
        ) as lease:
            self._edits = await applied_edits(lease, messages)
            async with aclosing(lease.server.completion(request, id=self._id)) as events:
                async for event in events:
                    if isinstance(event, TextDone):
                        self._done = event
                    yield event

    async def stream(self) -> AsyncGenerator[bytes, None]:
        begun = False
        async with aclosing(self._events()) as events:
            async for event in events:
                if not begun:
                    yield _sse(MessageStart(Message(id=self._message_id, model=self._messages.request.model)))
                    yield _sse(Ping())
                    begun = True
                for one in self._add(event):
                    yield _sse(one)
        for one in self._output.close():
            yield _sse(one)
        yield _sse(MessageDelta(self._stop(), self._usage(), self._edits, self._warnings()))
        yield _sse(MessageStop())

    def _add(self, event: TextEvent) -> Iterator[StreamEvent]:
        return self._output.add(event) if self._messages.request.max_tokens else iter(())

    async def whole(self) -> Message:
        async with aclosing(self._events()) as events:
            async for event in events:
                for _event in self._add(event):
                    continue
        for _event in self._output.close():
            continue
        stop, usage = self._stop(), self._usage()
        return Message(
            id=self._message_id,
            model=self._messages.request.model,
            content=self._output.blocks,
            stop_reason=stop.stop_reason,
            stop_sequence=stop.stop_sequence,
            usage=Usage(**asdict(usage)),
            context_management=self._edits,
            warnings=self._warnings(),
        )

    def last(self, error: DiptychError) -> bytes:
        """The event for an error after the first event."""
        return sse(anthropic_error(error, self._id), "error")

    def _stop(self) -> Stop:
        done = self._ended
        return Stop(self._stop_reason(done), done.stop_string or None)

    def _stop_reason(self, done: TextDone) -> StopReason:
        most = self._messages.request.max_tokens
        if done.done_reason or not most:
            return "model_context_window_exceeded" if done.eval_count < most else "max_tokens"
        if self._output.called:
            return "tool_use"
        return "stop_sequence" if done.stop_string else "end_turn"

    def _usage(self) -> DeltaUsage:
        done = self._ended
        written = done.eval_count if self._messages.request.max_tokens else 0
        return DeltaUsage(
            input_tokens=done.prompt_eval_count - done.cached,
            cache_read_input_tokens=done.cached,
            output_tokens=written,
            output_tokens_details=OutputDetails(self._output.thinking_tokens),
        )

    def _warnings(self) -> list[str] | UnsetType:
        return [*self._messages.warnings, *self._output.warnings, *(self._ended.warnings or [])] or UNSET

    @property
    def _ended(self) -> TextDone:
        assert self._done is not None, "the engine's last event has been read"
        return self._done


async def applied_edits(lease: Lease, messages: Messages) -> AppliedEdits | UnsetType:
    """What was left out of the conversation, if the request has something to say about that."""
    if messages.request.context_management is None:
        return UNSET
    cleared = messages.cleared_thoughts
    if not cleared:
        return AppliedEdits([])
    tokens = await ask(lease, "/tokenize", TokenizeRequest("\n".join(cleared)), Tokens)
    return AppliedEdits([AppliedEdit(CLEAR_THINKING, len(cleared), len(tokens.tokens))])


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex[:24]}"


def _sse(event: StreamEvent) -> bytes:
    return sse(event, str(type(event).__struct_config__.tag))
