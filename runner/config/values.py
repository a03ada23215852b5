"""The types of option values: how each is read from TOML or text, and what it allows, in words."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner.units import parse_duration, parse_size

Read = Callable[[Any], Any]

ORIGIN = re.compile(
    r"\*|null|[A-Za-z][A-Za-z0-9+.-]*://(\[[0-9a-fA-F:.]+\]|[^\s/?#@:\[\]]+)(:([0-9]{1,5}|\*))?/?"
)
ADDRESS = re.compile(r"local|http://(\[[0-9a-fA-F:.]+\]|[^\s/?#@:\[\]]{1,255})(:[0-9]{1,5})?(/[^\s?#]*)?")
MOST_ADDRESSES = 64
HOST = re.compile(r"\*|[^\s/?#@:\[\]]{1,255}")


@dataclass(frozen=True)
class Kind:
    """`read` takes a TOML value or a text and raises ValueError; `allowed` completes "it must be …".

    With `many` the option is a list of such values; in an environment variable they are separated by commas.
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
        """The same, from an environment variable."""
        if not self.many:
            return self.read(text)
        return tuple(self.read(item.strip()) for item in text.split(",") if item.strip())


def text() -> Kind:
    return Kind(_text, "a non-empty string")


def texts() -> Kind:
    return Kind(_text, "a non-empty string", many=True)


def origins() -> Kind:
    """Web origins as browsers send them, without a path: any other spelling would never match. Host and port may have a *."""
    return _matching(ORIGIN, "an origin such as https://chat.example.org or https://*.example.org, or *")


def hosts() -> Kind:
    """Host names as in a Host header, without the port."""
    return _matching(HOST, "a host name such as box.example.org, without a port, or *")


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

    return Kind(read, f"a whole number from {least} to {most}")


def count_or_addresses(least: int, most: int) -> Kind:
    """How many on this machine, or where on others: `http://mac-1:11435`, `http://mac-1:11435/name-there`, `local`."""
    count = whole(least, most)

    def read(value: Any) -> int | tuple[str, ...]:
        if not isinstance(value, list):
            return int(count.read(value))
        known = [text for text in value if isinstance(text, str) and ADDRESS.fullmatch(text)]
        if not 0 < len(value) <= MOST_ADDRESSES or len(set(known)) < len(value) or known == ["local"]:
            raise ValueError
        return tuple(known)

    return Kind(
        read, f'{count.allowed}, or a list of different addresses such as ["local", "http://mac-1:11435"]'
    )


def one_of(*choices: str) -> Kind:
    def read(value: Any) -> str:
        choice = str(value) if type(value) in (int, str) else ""
        if choice not in choices:
            raise ValueError
        return choice

    return Kind(read, f"one of {', '.join(choices)}")


def bits(*choices: int) -> Kind:
    choice = one_of(*map(str, choices))
    return Kind(lambda value: int(choice.read(value)), choice.allowed)


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
        answer = (
            value if type(value) is bool else words.get(value.lower()) if isinstance(value, str) else None
        )
        if answer is None:
            raise ValueError
        return answer

    return Kind(read, "true or false")


def size(*words: str, least: int = 1) -> Kind:
    """A size in bytes, or one of a few words."""

    def read(value: Any) -> int | str:
        if isinstance(value, str) and value.lower() in words:
            return value.lower()
        if isinstance(value, str):
            value = 0 if value.strip() == "0" else parse_size(value)
        if type(value) is not int or not least <= value < 2**63:
            raise ValueError
        return int(value)

    return Kind(
        read, " or ".join([*([", ".join(words)] if words else []), "a size such as 8GB, 512MiB or 1.5g"])
    )


def duration(least: float = -math.inf) -> Kind:
    """Seconds; where a negative value is allowed, it means forever."""

    def read(value: Any) -> float:
        if type(value) not in (int, float, str):
            raise ValueError
        seconds = parse_duration(value)
        if seconds < least:
            raise ValueError
        return seconds

    bound = f" of at least {least:g} s," if math.isfinite(least) else ""
    return Kind(read, f"a duration{bound} such as 90s, 5m, 1h30m or 300 (seconds)")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or any(ord(character) < 32 for character in value):
        raise ValueError
    return value
