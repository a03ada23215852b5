"""Calls of custom tools, whose input is text: the model calls them as functions with one argument."""

from collections.abc import Collection

from msgspec import UNSET
from msgspec.structs import replace

from runner.api.openai.schemas import AnyCall, AnyCallDelta, Call, CallDelta, CalledTool, CustomDelta
from runner.api.openai.tool_types import custom_input


def any_call(call: Call, custom: Collection[str]) -> AnyCall:
    """A call as a message has it. `custom`: the names of custom tools."""
    function = call.function
    if function.name in custom:
        return AnyCall(call.id, "custom", custom=CalledTool(function.name, custom_input(function.arguments)))
    return AnyCall(call.id, "function", function)


class CallStream:
    """The calls of one choice as a stream has them: of a custom tool, the input follows once it is complete."""

    def __init__(self, custom: Collection[str]) -> None:
        self._custom = custom
        self._names: list[str] = []
        self._complete = 0

    def pieces(self, deltas: list[CallDelta], complete: list[Call]) -> list[AnyCallDelta]:
        pieces = []
        for delta in deltas:
            if isinstance(delta.function.name, str):
                self._names.append(delta.function.name)
            name = self._names[delta.index]
            if name not in self._custom:
                piece = AnyCallDelta(delta.index, delta.id, function=delta.function)
                pieces.append(piece if delta.id is UNSET else replace(piece, type="function"))
            elif delta.id is not UNSET:
                custom = CustomDelta(name, "")
                pieces.append(AnyCallDelta(delta.index, delta.id, "custom", custom=custom))
        for index, call in enumerate(complete, start=self._complete):
            if call.function.name in self._custom:
                input = CustomDelta(UNSET, custom_input(call.function.arguments))
                pieces.append(AnyCallDelta(index, custom=input))
        self._complete += len(complete)
        return pieces
