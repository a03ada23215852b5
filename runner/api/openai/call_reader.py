"""Tool calls of an answer in OpenAI's format, with ids of their own."""

import uuid

import msgspec
from msgspec import UNSET

from runner.api.openai.schemas import Call, CallDelta, CalledFunction, FunctionDelta
from runner.protocol.events import TextEvent
from runner.protocol.text import CallDelta as EngineDelta


class CallReader:
    """Reads the calls in the events of one answer, in order. `one`: only the first counts."""

    def __init__(self, one: bool) -> None:
        self._one = one
        self._calls: list[Call] = []
        self._complete = 0

    @property
    def count(self) -> int:
        return len(self._calls)

    def read(self, event: TextEvent) -> list[CallDelta]:
        """What an event adds."""
        deltas = list(event.call_deltas or [])
        for call in event.tool_calls or []:
            arguments = msgspec.json.encode(call["arguments"]).decode()
            deltas.append(EngineDelta(self.count + len(deltas), call["name"], arguments))
        return [self._add(delta) for delta in deltas if not (self._one and delta.index)]

    def _add(self, delta: EngineDelta) -> CallDelta:
        if delta.index == len(self._calls):
            call = Call(f"call_{uuid.uuid4().hex[:24]}", CalledFunction(delta.name, delta.arguments))
            self._calls.append(call)
            return CallDelta(delta.index, FunctionDelta(delta.name, delta.arguments), call.id)
        call = self._calls[delta.index]
        function = CalledFunction(call.function.name, call.function.arguments + delta.arguments)
        self._calls[delta.index] = msgspec.structs.replace(call, function=function)
        return CallDelta(delta.index, FunctionDelta(UNSET, delta.arguments))

    def complete(self, last: bool) -> list[Call]:
        """The calls that have been completed since the last time: a call is, once another one or the end follows."""
        end = self.count if last else max(self.count - 1, self._complete)
        calls, self._complete = self._calls[self._complete : end], end
        return calls
