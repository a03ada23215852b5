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
Parser = Callable[[str, Tools], Any]


@dataclass(frozen=True)
class Marks:
    """What a model writes around its thoughts and tool calls. An empty `call_end`: a call goes to the end."""

    think_start: str | None = None
    think_end: str | None = None
    call_start: str | None = None
    call_end: str = ""
    parser: Parser | None = None
    dropped: tuple[str, ...] = ()  # marks of structure that mean nothing to a reader


def marks_of(tokenizer: Any) -> Marks:
    """The marks that mlx-lm found for a model, on its wrapped tokenizer."""
    return Marks(
        think_start=tokenizer.think_start,
        think_end=tokenizer.think_end,
        call_start=tokenizer.tool_call_start,
        call_end=tokenizer.tool_call_end or "",
        parser=tokenizer.tool_parser,
        dropped=tuple(tokenizer.structural_markers),
    )


@dataclass
class Parts:
    """What a piece of text adds to each."""

    content: str = ""
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)


class _In(Enum):
    CONTENT = "content"
    THOUGHT = "thought"
    CALL = "call"


class Outline:
    """One answer's. `thinking`: its prompt has opened a thought already."""

    def __init__(self, marks: Marks, tools: Tools | None = None, *, thinking: bool = False) -> None:
        self._marks = marks
        self._tools = tools or []
        self._in = _In.THOUGHT if thinking else _In.CONTENT
        self._left = self._in  # where a call began, which goes on after it
        self._held = ""
        self._at_start = thinking  # of a part, whose leading line breaks belong to the mark before it

    def push(self, text: str) -> Parts:
        """What is certain now; the beginning of a mark waits for the rest of it."""
        self._held += text
        parts = Parts()
        while self._advance(parts):
            continue
        return parts

    def finish(self) -> Parts:
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

    def _advance(self, parts: Parts) -> bool:
        """Up to the next mark; whether there was one."""
        marks = self._sought()
        found = [(at, -len(mark), mark) for mark in marks if (at := self._held.find(mark)) >= 0]
        if not found:
            if self._in is not _In.CALL:
                certain = len(self._held) - self._uncertain(marks)
                self._say(self._held[:certain], parts)
                self._held = self._held[certain:]
            return False
        at, _, mark = min(found)
        before, self._held = self._held[:at], self._held[at + len(mark) :]
        if self._in is _In.CALL:
            self._call(before, parts, ended=True)
        else:
            self._say(before.rstrip("\n") if self._in is _In.THOUGHT else before, parts)
            self._cross(mark)
        return True

    def _sought(self) -> list[str]:
        """The marks that mean something here."""
        marks = self._marks
        if self._in is _In.CALL:
            return [marks.call_end] if marks.call_end else []
        own = marks.think_end if self._in is _In.THOUGHT else marks.think_start
        call = marks.call_start if self._tools else None
        return [mark for mark in (own, call, *marks.dropped) if mark]

    def _uncertain(self, marks: list[str]) -> int:
        """How many characters at the end may yet become a mark, or the line breaks before one that ends a thought."""
        longest = 0
        for mark in marks:
            for size in range(min(len(mark) - 1, len(self._held)), longest, -1):
                if self._held.endswith(mark[:size]):
                    longest = size
                    break
        if self._in is _In.THOUGHT:
            before = self._held[: len(self._held) - longest]
            longest += len(before) - len(before.rstrip("\n"))
        return longest

    def _cross(self, mark: str) -> None:
        if mark == self._marks.call_start:
            self._left, self._in = self._in, _In.CALL
        elif mark == self._marks.think_start:
            self._in = _In.THOUGHT
        elif mark == self._marks.think_end:
            self._in = _In.CONTENT
        self._at_start = True

    def _say(self, text: str, parts: Parts) -> None:
        if self._at_start:
            text = text.lstrip("\n")
            self._at_start = not text
        if self._in is _In.THOUGHT:
            parts.thinking += text
        else:
            parts.content += text

    def _call(self, text: str, parts: Parts, ended: bool) -> None:
        marks = self._marks
        self._in = self._left
        calls = self._parsed(text)
        if calls is None:
            self._at_start = False
            self._say(f"{marks.call_start}{text}{marks.call_end if ended else ''}", parts)
        else:
            parts.tool_calls += calls
            self._at_start = True

    def _parsed(self, text: str) -> list[dict[str, Any]] | None:
        """The calls in a text; None where it holds something else."""
        if self._marks.parser is None:
            return None
        try:
            found = self._marks.parser(text, self._tools)
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
