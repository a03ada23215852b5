"""Durations as people and Ollama's clients write them."""

import math
import re
from typing import Annotated

from msgspec import Meta

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DIGITS = r"(?:\d+(?:\.\d*)?|\.\d+)"
_PART = re.compile(rf"({_DIGITS})(ns|us|µs|ms|s|m|h|d)")
_NUMBER = re.compile(_DIGITS)
# For documents alone: `parse_duration` says it in better words.
_PATTERN = rf"^[+-]?(?:{_DIGITS}|(?:{_DIGITS}(?:ns|us|µs|ms|s|m|h|d))+)$".replace(r"\d", "[0-9]")
Duration = Annotated[str, Meta(extra_json_schema={"pattern": _PATTERN})] | float
FORMS = "write it like 5m, 90s, 1h30m or 300 (seconds)"


def parse_duration(value: str | float) -> float:
    """Seconds from `5m`, `1h30m`, `90` or 90; below zero stands for "never" where one is allowed.

    ValueError says what is accepted.
    """
    seconds = _seconds(value.strip()) if isinstance(value, str) else float(value)
    if seconds is None or not math.isfinite(seconds):
        raise ValueError(f"{str(value)[:40]!r} is no duration; {FORMS}")
    return seconds


def _seconds(text: str) -> float | None:
    sign = -1.0 if text.startswith("-") else 1.0
    text = text[1:] if text[:1] in ("+", "-") else text
    if _NUMBER.fullmatch(text):
        return sign * float(text)
    if not text or _PART.sub("", text):
        return None
    return sign * sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def show_duration(seconds: float) -> str:
    """As a reader wants it: `4.2 s`, `5 min`, `2 h`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
