"""Sizes, counts and durations as people and Ollama's clients write them: parsed and shown."""

import math
import re

KIB, MIB, GIB = 1024, 1024**2, 1024**3
_SIZES = {"": 1, "b": 1, "k": KIB, "m": MIB, "g": GIB, "t": 1024 * GIB}
_SIZES |= {f"{letter}ib": _SIZES[letter] for letter in "kmgt"}
_SIZES |= {f"{letter}b": 1000 ** (place + 1) for place, letter in enumerate("kmgt")}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DIGITS = r"(?:\d+(?:\.\d*)?|\.\d+)"
_PART = re.compile(rf"({_DIGITS})(ns|us|µs|ms|s|m|h|d)")
_NUMBER = re.compile(_DIGITS)
DURATION_PATTERN = rf"^[+-]?(?:{_DIGITS}|(?:{_DIGITS}(?:ns|us|µs|ms|s|m|h|d))+)$".replace(r"\d", "[0-9]")
FORMS = "write it like 5m, 90s, 1h30m or 300 (seconds)"


def parse_size(text: str) -> int:
    """Bytes from `8GB` (decimal), `512MiB` or `1.5g` (binary), or a plain number. ValueError says what is accepted."""
    match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([a-zA-Z]*)\s*", text)
    unit = _SIZES.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{text[:40]!r} is not a size; write it like 8GB, 512MiB or 1.5g")
    size = math.floor(float(match[1]) * unit)
    if size <= 0:
        raise ValueError(f"{text[:40]!r} is not a size: it must be more than zero")
    return size


def show_size(size: int) -> str:
    """Bytes for a reader: `812 MB`, `8.04 GB` (decimal, as disks and file managers count)."""
    for unit, name in ((10**12, "TB"), (10**9, "GB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    for unit, name in ((10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.0f} {name}"
    return f"{size} bytes"


def show_count(count: int) -> str:
    """A number of parameters, as in the names of models: `3.88 B`, `137 M`, `4,096`."""
    for unit, letter in ((10**9, "B"), (10**6, "M")):
        if count >= unit:
            return f"{count / unit:.3g} {letter}"
    return f"{count:,}"


def parse_duration(value: str | float) -> float:
    """Seconds from `5m`, `1h30m`, `90` or 90; below zero stands for "never" where that is allowed.

    ValueError says what is accepted.
    """
    seconds = _seconds(value.strip()) if isinstance(value, str) else float(value)
    if seconds is None or not math.isfinite(seconds):
        raise ValueError(f"{str(value)[:40]!r} is not a duration; {FORMS}")
    return seconds


def _seconds(text: str) -> float | None:
    sign = -1.0 if text.startswith("-") else 1.0
    text = text[1:] if text[:1] in ("+", "-") else text
    if _NUMBER.fullmatch(text):
        return sign * float(text)
    if not text or _PART.sub("", text):
        return None
    return sign * sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def show_duration(seconds: float) -> str:
    """For a reader: `4.2 s`, `5 min`, `2 h`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
