"""What was said, how answers are to be made, and both as a file."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from runner.errors import BadRequest, DiptychError
from runner.protocol.text import OPTION_NAMES, Options, parse

FORMAT = "diptych chat"
LARGEST = 64 * 1024**2
# The most likely words alone make long answers go round in circles.
START = {"temperature": 0.7}


class Turn(msgspec.Struct, frozen=True):
    role: str
    content: str


class Saved(msgspec.Struct, frozen=True):
    """The file of a conversation."""

    format: str
    model: str
    messages: list[Turn]
    system: str = ""
    options: dict[str, Any] = {}
    think: bool | None = None


@dataclass
class Conversation:
    """Turns so far, and what goes with every request."""

    model: str
    system: str = ""
    options: dict[str, Any] = field(default_factory=lambda: dict(START))
    think: bool | None = None
    turns: list[Turn] = field(default_factory=list)

    def request(self, said: str) -> dict[str, Any]:
        """The request that continues the conversation with what the user says."""
        turns = [*self.turns, Turn("user", said)]
        if self.system:
            turns.insert(0, Turn("system", self.system))
        body: dict[str, Any] = {
            "messages": [msgspec.to_builtins(turn) for turn in turns],
            "options": self.options,
        }
        return body if self.think is None else body | {"think": self.think}

    def add(self, said: str, answer: str) -> None:
        """A turn of each. An answer that was stopped counts as far as it came."""
        self.turns += [Turn("user", said), Turn("assistant", answer)]

    def set(self, name: str, text: str) -> None:
        """`temperature`, `0.7`; no text means the runner's own value again. BadRequest says what is allowed."""
        if name == "think":
            self.think = _yes_or_no(text)
            return
        if name not in OPTION_NAMES:
            raise BadRequest(f"{name} is no option; these are: think, {', '.join(sorted(OPTION_NAMES))}")
        if not text:
            self.options.pop(name, None)
            return
        value = _value(text)
        parse(Options, {name: value})
        self.options[name] = value

    # As a file

    def save(self, path: Path) -> None:
        """Write it to a file, at once or not at all. A file that is something else is left alone."""
        try:
            if path.exists():
                _read(path)
            saved = Saved(FORMAT, self.model, self.turns, self.system, self.options, self.think)
            fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            try:
                fresh.write_text(
                    json.dumps(msgspec.to_builtins(saved), indent=2, ensure_ascii=False), "utf-8"
                )
                os.replace(fresh, path)
            finally:
                fresh.unlink(missing_ok=True)
        except OSError as error:
            raise DiptychError(f"{path} cannot be written: {error.strerror or error}") from error

    def load(self, path: Path) -> None:
        """Go on where a file ends; the model stays the one that is here."""
        saved = _read(path)
        self.turns, self.system = list(saved.messages), saved.system
        self.options, self.think = dict(saved.options), saved.think


def _read(path: Path) -> Saved:
    try:
        if not path.is_file():
            raise BadRequest(f"{path} is {'no file' if path.exists() else 'not there'}")
        if path.stat().st_size > LARGEST:
            raise BadRequest(f"{path} is too large for a conversation")
        raw = path.read_bytes()
    except OSError as error:
        raise DiptychError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        saved = msgspec.json.decode(raw, type=Saved)
        if saved.format != FORMAT:
            raise BadRequest(f"{path} is no saved conversation: its format is {saved.format!r}")
        parse(Options, saved.options)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"{path} is no saved conversation: {error}") from None
    return saved


def _value(text: str) -> Any:
    """A number, a list, a quoted string as JSON writes them; any other text as it is."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _yes_or_no(text: str) -> bool | None:
    words = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False, "": None}
    if text.lower() not in words:
        raise BadRequest(f"think: {text!r} is not allowed; on, off or nothing (the model's way) is")
    return words[text.lower()]
