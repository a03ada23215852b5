"""How far something is: a bar where somebody watches, a line now and then where not, JSON for programs."""

import json
import sys
import threading
import time
from types import TracebackType
from typing import Literal, Self

from runner.terminal import terminal_width
from runner.units import show_size

Style = Literal["bar", "lines", "json"]

BLOCKS = " ▏▎▍▌▋▊▉█"
EACH = {"bar": 0.1, "lines": 10.0, "json": 0.5}  # seconds between two words
SPAN = 5.0  # seconds over which the speed is the mean


class Progress:
    """Told of bytes by whatever threads, it says them on stderr (JSON: stdout) until it is closed."""

    def __init__(self, title: str, style: Style) -> None:
        self._title = title
        self._style = style
        self._lock = threading.Lock()
        self._last = 0.0
        self._closed = False
        self._marks: list[tuple[float, int]] = []
        self.done = 0
        self.total = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        with self._lock:
            # Threads of a download that was given up may go on for a moment.
            if self._closed:
                return
            self.done, self.total = done, total
            if now - self._last >= EACH[self._style]:
                self._last = now
                self._marks = [mark for mark in self._marks if now - mark[0] < SPAN] + [(now, done)]
                self._say()

    def close(self) -> None:
        """The last word; nothing is written after it."""
        with self._lock:
            if not self._closed and self._last:
                self._say()
                if self._style == "bar":
                    print(file=sys.stderr)
            self._closed = True

    def _say(self) -> None:
        if self._style == "json":
            print(json.dumps({"done": self.done, "total": self.total}), flush=True)
        elif self._style == "bar":
            print(f"\r{self._bar(terminal_width() - 1)}", end="", file=sys.stderr, flush=True)
        else:
            print(self._words(), file=sys.stderr, flush=True)

    def _bar(self, width: int) -> str:
        words = self._words()
        room = width - len(words) - 3
        return (f"{words} ▕{bar(self.share, room)}▏" if room >= 6 else words)[:width].ljust(width)

    def _words(self) -> str:
        speed = self.speed
        ending = f", {show_size(int(speed))}/s" if speed > 0 and self.done < self.total else ""
        return f"{self._title} {self.share:4.0%} {show_size(self.done)} of {show_size(self.total)}{ending}"

    @property
    def share(self) -> float:
        return min(self.done / self.total, 1.0) if self.total else 0.0

    @property
    def speed(self) -> float:
        """Bytes a second lately."""
        if len(self._marks) < 2:
            return 0.0
        (began, first), (ended, last) = self._marks[0], self._marks[-1]
        return (last - first) / max(ended - began, 1e-9)


def bar(share: float, width: int) -> str:
    """A bar of so many characters, filled to an eighth of one."""
    whole, part = divmod(round(share * width * 8), 8)
    return ("█" * whole + (BLOCKS[part] if part else "")).ljust(width)
