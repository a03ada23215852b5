"""Tool calls in JSON, read while they are written."""

import json
import re
from typing import Any

from runner.protocol.text import CallDelta

# The name stands before the arguments: so templates show calls, and so grammars hold them.
NAME = r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")'
NAMED = re.compile(NAME)
BEGUN = re.compile(NAME + r'\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')


class CallStream:
    """One call, `{"name": …, "arguments": {…}}`. `name` is None until its arguments begin."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._text = ""
        self._at = 0  # of the text, what has been read
        self._depth = 0
        self._quoted = self._escaped = self._closed = False

    def push(self, text: str) -> str:
        """The text that this adds to the arguments."""
        self._text += text
        if self.name is None:
            begun = BEGUN.match(self._text)
            if begun is None:
                return ""
            self.name, self._at = _name(begun), begun.end()
        start = self._at
        while self._at < len(self._text) and not self._closed:
            self._read(self._text[self._at])
            self._at += 1
        return self._text[start : self._at]

    def cut(self) -> str | None:
        """The name in a call that ended before its arguments began."""
        named = NAMED.match(self._text)
        return None if named is None else _name(named)

    def _read(self, char: str) -> None:
        if self._escaped:
            self._escaped = False
        elif self._quoted:
            self._escaped, self._quoted = char == "\\", char != '"'
        elif char == '"':
            self._quoted = True
        elif char in "{[":
            self._depth += 1
        elif char in "}]":
            self._depth -= 1
            self._closed = self._depth == 0


def _name(match: re.Match[str]) -> str | None:
    try:
        return str(json.loads(match.group(1), strict=False))
    except ValueError:  # an escape that JSON does not have
        return None


class CallDeltas:
    """The calls of an answer, piece by piece."""

    def __init__(self) -> None:
        self._count = 0
        self._call = CallStream()
        self._length = 0  # of the current call's text, as far as it was read

    def read(self, text: str, cut: bool = False) -> list[CallDelta]:
        """The current call's text so far. `cut`: no more of it follows."""
        begun = self._call.name is not None
        arguments = self._call.push(text[self._length :])
        self._length = len(text)
        if cut and self._call.name is None:
            self._call.name = self._call.cut()
        name = "" if begun else self._call.name or ""
        return [CallDelta(self._count, name, arguments)] if name or arguments else []

    def end(self) -> bool:
        """End the current call. Whether it was one."""
        was_call = self._call.name is not None
        self._count += was_call
        self._call, self._length = CallStream(), 0
        return was_call

    def whole(self, call: dict[str, Any]) -> CallDelta:
        """A call that was read at once."""
        self._count += 1
        arguments = json.dumps(call["arguments"], ensure_ascii=False, separators=(",", ":"))
        return CallDelta(self._count - 1, call["name"], arguments)
