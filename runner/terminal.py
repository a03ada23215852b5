"""Output of commands: tables, times and warnings for people, JSON for scripts."""

import json
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from typing import Any

GAP = "  "


def terminal_width() -> int:
    return max(shutil.get_terminal_size().columns, 40)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None) -> str:
    """Columns under their headings; the first gets the width that the others leave.

    A first cell that is wider gets a line of its own: names are meant to be copied, so they are never cut.
    """
    cells = [list(head), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    rest = sum(widths[1:]) + len(GAP) * (len(head) - 1)
    widths[0] = min(widths[0], max((width or terminal_width()) - rest, 12))
    lines: list[str] = []
    for first, *others in cells:
        if len(first) > widths[0]:
            lines.append(first)
            first = ""
        row = [first, *others]
        lines.append(GAP.join(f"{cell:<{size}}" for cell, size in zip(row, widths, strict=True)).rstrip())
    return "\n".join(lines)


def printable(text: str) -> str:
    """Text from a file without control characters, which could steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def paragraph(text: str, indent: str = "") -> str:
    """Prose, wrapped to the width of the terminal."""
    return textwrap.fill(
        text, terminal_width(), initial_indent=indent, subsequent_indent=indent, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def ago(moment: float, now: float | None = None) -> str:
    """A time in the past, such as `3 hours ago`; a date if it is long ago."""
    passed = (time.time() if now is None else now) - moment
    if moment <= 0 or passed > 45 * 86400:
        return time.strftime("%Y-%m-%d", time.localtime(moment)) if moment > 0 else "unknown"
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if passed >= size:
            count = int(passed // size)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def span(seconds: float) -> str:
    """A rounded length of time: `42 s`, `5 min`, `3 h`."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def stamp(moment: float) -> str:
    """A time for programs: ISO 8601, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def warn(message: str) -> None:
    """A line on standard error."""
    print(f"diptych: {message}", file=sys.stderr)
