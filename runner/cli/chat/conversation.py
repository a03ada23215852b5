"""A conversation: its messages and generation options, and both as a file."""

import base64
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from pipelines.limits import MOST_REFERENCES
from runner.errors import BadRequest, DiptychError
from runner.protocol.text import OPTION_NAMES, Message, Options, TextRequest, parse

FORMAT = "diptych chat"
LARGEST = 64 * 1024**2
# Greedy decoding makes long answers repeat themselves.
DEFAULTS = {"temperature": 0.7}


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    role: str
    content: str
    images: list[str] = []  # in base64


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
    pictures: list[str] = field(default_factory=list)  # that go with the next prompt

    def show(self, path: Path) -> None:
        """Let a picture go with the next prompt."""
        if sum(len(turn.images) for turn in self.turns) + len(self.pictures) >= MOST_REFERENCES:
            raise BadRequest(f"{path}: a conversation may have at most {MOST_REFERENCES} pictures")
        self.pictures.append(_picture(path))

    def request(self, prompt: str) -> TextRequest:
        """The request that continues the conversation with a prompt."""
        turns = [*self.turns, Turn("user", prompt, self.pictures)]
        if self.system:
            turns.insert(0, Turn("system", self.system))
        messages = [Message(turn.role, turn.content, turn.images or None) for turn in turns]
        return TextRequest(messages=messages, options=parse(Options, self.options), think=self.think)

    def add(self, prompt: str, answer: str) -> None:
        """Add a prompt and its answer, which may be incomplete."""
        self.turns += [Turn("user", prompt, self.pictures), Turn("assistant", answer)]
        self.pictures = []

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


def _picture(path: Path) -> str:
    """A picture's file in base64, of which the header has been read."""
    from pipelines.images import PictureError  # imports Pillow
    from pipelines.picture_files import PictureFile

    data = _content(path, "a picture")
    try:
        PictureFile(data)
    except PictureError as error:
        raise BadRequest(f"{path}: {error}") from None
    return base64.b64encode(data).decode()


def _content(path: Path, what: str) -> bytes:
    try:
        if not path.is_file():
            raise BadRequest(f"{path} {'is not a file' if path.exists() else 'does not exist'}")
        if path.stat().st_size > LARGEST:
            raise BadRequest(f"{path} is too large for {what}; the limit is {LARGEST >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise DiptychError(f"cannot read {path}: {error.strerror or error}") from error


def _read(path: Path) -> Saved:
    raw = _content(path, "a conversation")
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
