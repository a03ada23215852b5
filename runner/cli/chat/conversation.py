"""A conversation: its messages and generation options, and both as a file."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from runner.errors import BadRequest, DiptychError
from runner.protocol.text import OPTION_NAMES, Message, Options, TextRequest, parse

FORMAT = "diptych chat"
LARGEST = 64 * 1024**2
# Greedy decoding makes long answers repeat themselves.
DEFAULTS = {"temperature": 0.7}


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
    """The turns so far, and what is sent with every request."""

    model: str
    system: str = ""
    options: dict[str, Any] = field(default_factory=lambda: dict(DEFAULTS))
    think: bool | None = None
    turns: list[Turn] = field(default_factory=list)

    def request(self, prompt: str) -> TextRequest:
        """The request that continues the conversation with a prompt."""
        turns = [*self.turns, Turn("user", prompt)]
        if self.system:
            turns.insert(0, Turn("system", self.system))
        messages = [Message(turn.role, turn.content) for turn in turns]
        return TextRequest(messages=messages, options=parse(Options, self.options), think=self.think)

    def add(self, prompt: str, answer: str) -> None:
        """Add a prompt and its answer, which may be incomplete."""
        self.turns += [Turn("user", prompt), Turn("assistant", answer)]

    def set(self, name: str, text: str) -> None:
        """Set an option from text; empty text resets it to the model's value. BadRequest says what is allowed."""
        if name == "think":
            self.think = _yes_or_no(text)
            return
        if name not in OPTION_NAMES:
            raise BadRequest(
                f"{name} is not an option; the options are think, {', '.join(sorted(OPTION_NAMES))}"
            )
        if not text:
            self.options.pop(name, None)
            return
        value = _value(text)
        parse(Options, {name: value})
        self.options[name] = value

    # As a file

    def save(self, path: Path) -> None:
        """Write it to a file atomically. A file that is not a conversation is never overwritten."""
        try:
            if path.exists():
                _read(path)
            saved = Saved(FORMAT, self.model, self.turns, self.system, self.options, self.think)
            partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            try:
                partial.write_text(
                    json.dumps(msgspec.to_builtins(saved), indent=2, ensure_ascii=False), "utf-8"
                )
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise DiptychError(f"cannot write {path}: {error.strerror or error}") from error

    def load(self, path: Path) -> None:
        """Continue the conversation in a file, with the current model."""
        saved = _read(path)
        self.turns, self.system = list(saved.messages), saved.system
        self.options, self.think = dict(saved.options), saved.think


def _read(path: Path) -> Saved:
    try:
        if not path.is_file():
            raise BadRequest(f"{path} {'is not a file' if path.exists() else 'does not exist'}")
        if path.stat().st_size > LARGEST:
            raise BadRequest(f"{path} is too large for a conversation; the limit is {LARGEST >> 20} MiB")
        raw = path.read_bytes()
    except OSError as error:
        raise DiptychError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        content = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest(f"{path} is not a saved conversation: it is not JSON") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BadRequest(f"{path} is not a saved conversation: its format is not {FORMAT!r}")
    try:
        saved = parse(Saved, content)
        parse(Options, saved.options)
    except BadRequest as error:
        raise BadRequest(f"{path} is not a saved conversation: {error.message}") from None
    return saved


def _value(text: str) -> Any:
    """JSON where the text is JSON, otherwise the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _yes_or_no(text: str) -> bool | None:
    words = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False, "": None}
    if text.lower() not in words:
        raise BadRequest(f"think: {text!r} is not allowed; it must be on, off or empty (the model's default)")
    return words[text.lower()]
