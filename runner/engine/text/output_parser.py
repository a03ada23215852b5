"""Splits a streamed chat answer into thinking, tool calls and content.

Works on text, so it does not matter how markers were split into tokens. Text that looks like a tool call but cannot be
parsed stays content.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from runner.engine.text.call_stream import CallDeltas
from runner.protocol.text import CallDelta

log = logging.getLogger("diptych.text")

Tools = list[dict[str, Any]]
# (text of a call, available tools) -> one call or several, {"name": …, "arguments": {…}}; may raise any exception.
ToolParser = Callable[[str, Tools], Any]


@dataclass(frozen=True)
class Markers:
    """What a model writes around its thinking and tool calls. With an empty `call_end` a call extends to the end."""

    think_start: str | None = None
    think_end: str | None = None
    call_start: str | None = None
    call_end: str = ""
    tool_parser: ToolParser | None = None
    json_calls: bool = False  # a call may be {"name": …, "arguments": {…}}
    dropped: tuple[str, ...] = ()  # structural markers to be removed


def markers_of(tokenizer: Any) -> Markers:
    """The markers of a model, from mlx-lm's tokenizer wrapper."""
    return Markers(
        think_start=tokenizer.think_start,
        think_end=tokenizer.think_end,
        call_start=tokenizer.tool_call_start,
        call_end=tokenizer.tool_call_end or "",
        tool_parser=tokenizer.tool_parser,
        json_calls=_reads_json(tokenizer.tool_parser),
        dropped=tuple(tokenizer.structural_markers),
    )


def _reads_json(parser: ToolParser | None) -> bool:
    """Whether a model's parser takes calls in JSON: formats are told apart by what their parsers read."""
    call = {"name": "look", "arguments": {"at": "sea"}}
    try:
        return parser is not None and bool(parser(json.dumps(call), []) == call)
    except Exception:  # parsers differ in what they raise for text of another format
        return False


@dataclass
class ParsedDelta:
    """What a piece of text adds to content, thinking and tool calls."""

    content: str = ""
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    call_deltas: list[CallDelta] = field(default_factory=list)

    def __add__(self, other: "ParsedDelta") -> "ParsedDelta":
        return ParsedDelta(
            self.content + other.content,
            self.thinking + other.thinking,
            self.tool_calls + other.tool_calls,
            self.call_deltas + other.call_deltas,
        )


class _Section(Enum):
    CONTENT = "content"
    THOUGHT = "thought"
    CALL = "call"


class OutputParser:
    """For one answer. `thinking`: the prompt already contains the start of thinking. `calls`: where calls are passed on
    while they are written."""

    def __init__(
        self,
        markers: Markers,
        tools: Tools | None = None,
        *,
        thinking: bool = False,
        calls: CallDeltas | None = None,
    ) -> None:
        self._markers = markers
        self._tools = tools or []
        self._calls = calls
        self._section = _Section.THOUGHT if thinking else _Section.CONTENT
        self._outer = self._section  # the section that contains a call
        self._held = ""
        self._at_start = thinking  # of a section: leading line breaks belong to the marker before it

    def push(self, text: str) -> ParsedDelta:
        """Everything that is certain; a possible start of a marker is held back."""
        self._held += text
        delta = ParsedDelta()
        while self._advance(delta):
            continue
        return delta

    def finish(self) -> ParsedDelta:
        """The text held back, when the answer is complete."""
        delta = self.push("")
        if self._section is _Section.CALL:
            self._end_call(self._held, delta, ended=False)
        elif self._section is _Section.THOUGHT:
            self._add(self._held.rstrip("\n"), delta)
        else:
            self._add(self._held, delta)
        self._held = ""
        return delta

    def _advance(self, delta: ParsedDelta) -> bool:
        """Process text up to the next marker; whether there was one."""
        markers = self._relevant_markers()
        matches = [(at, -len(marker), marker) for marker in markers if (at := self._held.find(marker)) >= 0]
        if not matches:
            certain = len(self._held) - self._uncertain(markers)
            if self._section is not _Section.CALL:
                self._add(self._held[:certain], delta)
                self._held = self._held[certain:]
            elif self._calls is not None and self._markers.json_calls:
                delta.call_deltas += self._calls.read(self._held[:certain])
            return False
        at, _, marker = min(matches)
        before, self._held = self._held[:at], self._held[at + len(marker) :]
        if self._section is _Section.CALL:
            self._end_call(before, delta, ended=True)
        else:
            self._add(before.rstrip("\n") if self._section is _Section.THOUGHT else before, delta)
            self._enter(marker)
        return True

    def _relevant_markers(self) -> list[str]:
        """The markers that can occur in the current section."""
        markers = self._markers
        if self._section is _Section.CALL:
            return [markers.call_end] if markers.call_end else []
        own = markers.think_end if self._section is _Section.THOUGHT else markers.think_start
        call = markers.call_start if self._tools else None
        return [marker for marker in (own, call, *markers.dropped) if marker]

    def _uncertain(self, markers: list[str]) -> int:
        """How many characters at the end may become a marker, or the line breaks before the end of thinking."""
        longest = 0
        for marker in markers:
            for size in range(min(len(marker) - 1, len(self._held)), longest, -1):
                if self._held.endswith(marker[:size]):
                    longest = size
                    break
        if self._section is _Section.THOUGHT:
            before = self._held[: len(self._held) - longest]
            longest += len(before) - len(before.rstrip("\n"))
        return longest

    def _enter(self, marker: str) -> None:
        if marker == self._markers.call_start:
            self._outer, self._section = self._section, _Section.CALL
        elif marker == self._markers.think_start:
            self._section = _Section.THOUGHT
        elif marker == self._markers.think_end:
            self._section = _Section.CONTENT
        self._at_start = True

    def _add(self, text: str, delta: ParsedDelta) -> None:
        if self._at_start:
            text = text.lstrip("\n")
            self._at_start = not text
        if self._section is _Section.THOUGHT:
            delta.thinking += text
        else:
            delta.content += text

    def _end_call(self, text: str, delta: ParsedDelta, ended: bool) -> None:
        markers = self._markers
        self._section = self._outer
        if self._calls is not None and markers.json_calls:
            delta.call_deltas += self._calls.read(text, cut=not ended)
            if self._calls.end():
                self._at_start = True
                return
        calls = self._parse_calls(text)
        if calls is None:
            self._at_start = False
            self._add(f"{markers.call_start}{text}{markers.call_end if ended else ''}", delta)
        else:
            self._at_start = True
            if self._calls is None:
                delta.tool_calls += calls
            else:
                delta.call_deltas += map(self._calls.whole, calls)

    def _parse_calls(self, text: str) -> list[dict[str, Any]] | None:
        """The calls in a text; None if it cannot be parsed."""
        if self._markers.tool_parser is None:
            return None
        try:
            parsed = self._markers.tool_parser(text, self._tools)
            return [_checked(call) for call in (parsed if isinstance(parsed, list) else [parsed])] or None
        except Exception as error:  # parsers differ, and the text comes from a model
            log.info("a tool call cannot be parsed: %s: %s", type(error).__name__, error)
            return None


def _checked(call: Any) -> dict[str, Any]:
    name, arguments = call["name"], call.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise TypeError("a name and an object of arguments are needed")
    return {"name": name, "arguments": arguments}
