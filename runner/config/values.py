"""What an option's value may be: read from TOML or from text, checked, and said in words."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner.units import parse_duration, parse_size

Read = Callable[[Any], Any]

ORIGIN = re.compile(r"\*|null|[A-Za-z][A-Za-z0-9+.-]*://(\[[0-9a-fA-F:.]+\]|[^\s/?#@:\[\]]+)(:[0-9]{1,5})?/?")
HOST = re.compile(r"\*|[^\s/?#@:\[\]]{1,255}")


@dataclass(frozen=True)
class Kind:
    """`read` takes what TOML or a text holds and raises ValueError; `allowed` completes "… is not allowed; ".

    A list in the environment is written with commas.
    """

    read: Read
    allowed: str
    many: bool = False

    def parse(self, value: Any) -> Any:
        if not self.many:
            return self.read(value)
        if not isinstance(value, list):
            raise ValueError
        return tuple(self.read(item) for item in value)

    def parse_text(self, text: str) -> Any:
        """The same from an environment variable."""
        if not self.many:
            return self.read(text)
        return tuple(self.read(item.strip()) for item in text.split(",") if item.strip())


def text() -> Kind:
    return Kind(_text, "a string that is not empty is")


def origins() -> Kind:
    """Pages, as browsers name them: no path behind the host. What is written otherwise would never be met."""
    return _matching(ORIGIN, "a list of origins such as https://chat.example.org, or *, is")


def hosts() -> Kind:
    """Names as they stand in a Host header, before its port."""
    return _matching(HOST, "a list of names such as box.example.org, without a port, or *, is")


def _matching(pattern: re.Pattern[str], allowed: str) -> Kind:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError
        return value

    return Kind(read, allowed, many=True)


def whole(least: int, most: int = 2**31 - 1) -> Kind:
    def read(value: Any) -> int:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
            value = int(value)
        if type(value) is not int or not least <= value <= most:
            raise ValueError
        return value

    return Kind(read, f"a whole number from {least} to {most} is")


def one_of(*choices: str) -> Kind:
    def read(value: Any) -> str:
        found = str(value) if type(value) in (int, str) else ""
        if found not in choices:
            raise ValueError
        return found

    return Kind(read, f"one of {', '.join(choices)} is")


def bits(*choices: int) -> Kind:
    """A number of bits out of a few."""
    word = one_of(*map(str, choices))
    return Kind(lambda value: int(word.read(value)), word.allowed)


def yes_or_no() -> Kind:
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }

    def read(value: Any) -> bool:
        found = value if type(value) is bool else words.get(value.lower()) if isinstance(value, str) else None
        if found is None:
            raise ValueError
        return found

    return Kind(read, "true or false is")


def size(*words: str, least: int = 1) -> Kind:
    """Bytes, or a word that stands for some."""

    def read(value: Any) -> int | str:
        if isinstance(value, str) and value.lower() in words:
            return value.lower()
        if isinstance(value, str):
            value = 0 if value.strip() == "0" else parse_size(value)
        if type(value) is not int or not least <= value < 2**63:
            raise ValueError
        return int(value)

    return Kind(read, ", ".join([*words, "a size such as 8GB, 512MiB or 1.5g is"]))


def duration(least: float = -math.inf) -> Kind:
    """Seconds; below 0, where that is allowed, for good."""

    def read(value: Any) -> float:
        if type(value) not in (int, float, str):
            raise ValueError
        seconds = parse_duration(value)
        if seconds < least:
            raise ValueError
        return seconds

    bound = f" of {least:g} s or more," if math.isfinite(least) else ""
    return Kind(read, f"a duration{bound} such as 90s, 5m, 1h30m or 300 (seconds) is")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or any(ord(character) < 32 for character in value):
        raise ValueError
    return value
