"""A chat's answer taken apart while it is written: thoughts, tool calls, and what is said.

Works on text, so that it makes no difference how markers were cut into tokens. What looks like a tool call and cannot
be read as one stays what it is: text.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

log = logging.getLogger("diptych.text")

Tools = list[dict[str, Any]]
# A call's text and the tools there are -> one call or several, {"name": …, "arguments": {…}}; raises what it likes.
ToolParser = Callable[[str, Tools], Any]


@dataclass(frozen=True)
class Markers:
    """What a model writes around its thoughts and tool calls. An empty `call_end`: a call goes to the end."""

    think_start: str | None = None
    think_end: str | None = None
    call_start: str | None = None
    call_end: str = ""
    tool_parser: ToolParser | None = None
    dropped: tuple[str, ...] = ()  # markers of structure that mean nothing to a reader


def markers_of(tokenizer: Any) -> Markers:
    """The markers that mlx-lm found for a model, on its wrapped tokenizer."""
    return Markers(
        think_start=tokenizer.think_start,
        think_end=tokenizer.think_end,
        call_start=tokenizer.tool_call_start,
        call_end=tokenizer.tool_call_end or "",
        tool_parser=tokenizer.tool_parser,
        dropped=tuple(tokenizer.structural_markers),
    )


@dataclass
class ParsedDelta:
    """What a piece of text adds to each."""

    content: str = ""
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)


class _In(Enum):
    CONTENT = "content"
    THOUGHT = "thought"
    CALL = "call"


class OutputParser:
    """One answer's. `thinking`: its prompt has opened a thought already."""

    def __init__(self, markers: Markers, tools: Tools | None = None, *, thinking: bool = False) -> None:
        self._markers = markers
        self._tools = tools or []
        self._in = _In.THOUGHT if thinking else _In.CONTENT
        self._left = self._in  # where a call began, which goes on after it
        self._held = ""
        self._at_start = thinking  # of a part, whose leading line breaks belong to the marker before it

    def push(self, text: str) -> ParsedDelta:
        """What is certain now; the beginning of a marker waits for the rest of it."""
        self._held += text
        parts = ParsedDelta()
        while self._advance(parts):
            continue
        return parts

    def finish(self) -> ParsedDelta:
        """The rest, now that no text follows."""
        parts = self.push("")
        if self._in is _In.CALL:
            self._call(self._held, parts, ended=False)
        elif self._in is _In.THOUGHT:
            self._say(self._held.rstrip("\n"), parts)
        else:
            self._say(self._held, parts)
        self._held = ""
        return parts

    def _advance(self, parts: ParsedDelta) -> bool:
        """Up to the next marker; whether there was one."""
        markers = self._sought()
        found = [(at, -len(marker), marker) for marker in markers if (at := self._held.find(marker)) >= 0]
        if not found:
            if self._in is not _In.CALL:
                certain = len(self._held) - self._uncertain(markers)
                self._say(self._held[:certain], parts)
                self._held = self._held[certain:]
            return False
        at, _, marker = min(found)
        before, self._held = self._held[:at], self._held[at + len(marker) :]
        if self._in is _In.CALL:
            self._call(before, parts, ended=True)
        else:
            self._say(before.rstrip("\n") if self._in is _In.THOUGHT else before, parts)
            self._cross(marker)
        return True

    def _sought(self) -> list[str]:
        """The markers that mean something here."""
        markers = self._markers
        if self._in is _In.CALL:
            return [markers.call_end] if markers.call_end else []
        own = markers.think_end if self._in is _In.THOUGHT else markers.think_start
        call = markers.call_start if self._tools else None
        return [marker for marker in (own, call, *markers.dropped) if marker]

    def _uncertain(self, markers: list[str]) -> int:
        """How many characters at the end may yet become a marker, or the line breaks before one that ends a thought."""
        longest = 0
        for marker in markers:
            for size in range(min(len(marker) - 1, len(self._held)), longest, -1):
                if self._held.endswith(marker[:size]):
                    longest = size
                    break
        if self._in is _In.THOUGHT:
            before = self._held[: len(self._held) - longest]
            longest += len(before) - len(before.rstrip("\n"))
        return longest

    def _cross(self, marker: str) -> None:
        if marker == self._markers.call_start:
            self._left, self._in = self._in, _In.CALL
        elif marker == self._markers.think_start:
            self._in = _In.THOUGHT
        elif marker == self._markers.think_end:
            self._in = _In.CONTENT
        self._at_start = True

    def _say(self, text: str, parts: ParsedDelta) -> None:
        if self._at_start:
            text = text.lstrip("\n")
            self._at_start = not text
        if self._in is _In.THOUGHT:
            parts.thinking += text
        else:
            parts.content += text

    def _call(self, text: str, parts: ParsedDelta, ended: bool) -> None:
        markers = self._markers
        self._in = self._left
        calls = self._parsed(text)
        if calls is None:
            self._at_start = False
            self._say(f"{markers.call_start}{text}{markers.call_end if ended else ''}", parts)
        else:
            parts.tool_calls += calls
            self._at_start = True

    def _parsed(self, text: str) -> list[dict[str, Any]] | None:
        """The calls in a text; None where it holds something else."""
        if self._markers.tool_parser is None:
            return None
        try:
            found = self._markers.tool_parser(text, self._tools)
            calls = found if isinstance(found, list) else [found]
            return [_call(call) for call in calls] or None
        except Exception as error:  # parsers are many, and the text is a model's
            log.info("a tool call cannot be read: %s: %s", type(error).__name__, error)
            return None


def _call(found: Any) -> dict[str, Any]:
    name, arguments = found["name"], found.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise TypeError("a name and an object of arguments are needed")
    return {"name": name, "arguments": arguments}
