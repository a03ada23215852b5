"""The progress of a download, and of loading a model and drawing a picture, on the terminal or for programs."""

import json
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self, TextIO

from runner.terminal import terminal_width
from runner.units import show_size

Style = Literal["bar", "lines", "json"]

BLOCKS = " ▏▎▍▌▋▊▉█"
INTERVALS_S: dict[Style, float] = {"bar": 0.1, "lines": 10.0, "json": 0.5}
SPEED_WINDOW_S = 5.0
STEPS_WIDTH = 24


class Progress:
    """Reports bytes done, from any thread, on standard error (JSON: on standard output) until it is closed."""

    def __init__(self, title: str, style: Style) -> None:
        self._title = title
        self._style = style
        self._lock = threading.Lock()
        self._reported = 0.0  # when last
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
            # The threads of a cancelled download may go on for a moment.
            if self._closed:
                return
            self.done, self.total = done, total
            if now - self._reported >= INTERVALS_S[self._style]:
                self._reported = now
                self._marks = [mark for mark in self._marks if now - mark[0] < SPEED_WINDOW_S] + [(now, done)]
                self._report()

    def close(self) -> None:
        """Report the final state; nothing is written afterwards."""
        with self._lock:
            if not self._closed and self._reported:
                self._report()
                if self._style == "bar":
                    print(file=sys.stderr)
            self._closed = True

    def _report(self) -> None:
        if self._style == "json":
            print(json.dumps({"done": self.done, "total": self.total}), flush=True)
        elif self._style == "bar":
            print(f"\r{self._line(terminal_width() - 1)}", end="", file=sys.stderr, flush=True)
        else:
            print(self._summary(), file=sys.stderr, flush=True)

    def _line(self, width: int) -> str:
        summary = self._summary()
        room = width - len(summary) - 3
        return (f"{summary} ▕{bar(self.share, room)}▏" if room >= 6 else summary)[:width].ljust(width)

    def _summary(self) -> str:
        speed = self.speed
        ending = f", {show_size(int(speed))}/s" if speed > 0 and self.done < self.total else ""
        return f"{self._title} {self.share:4.0%} {show_size(self.done)} of {show_size(self.total)}{ending}"

    @property
    def share(self) -> float:
        return min(self.done / self.total, 1.0) if self.total else 0.0

    @property
    def speed(self) -> float:
        """Bytes per second, averaged over the last few seconds."""
        if len(self._marks) < 2:
            return 0.0
        (began, first), (ended, last) = self._marks[0], self._marks[-1]
        return (last - first) / max(ended - began, 1e-9)


class Steps:
    """The progress of a picture: one line on standard error, overwritten each time; nothing if that is not a terminal."""

    def __init__(self, out: TextIO | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._out = out or sys.stderr
        self._now = now
        self._visible = self._out.isatty()
        self._first: tuple[int, float] | None = None  # the first completed step, and when

    def loading(self, share: float) -> None:
        self._write(f"loading ▕{bar(share, STEPS_WIDTH)}▏ {share:.0%}")

    def step(self, done: int, total: int) -> None:
        """The time left is estimated without the first step, which includes encoding the prompt and compiling."""
        now, left = self._now(), ""
        if self._first is None:
            self._first = (done, now) if done else None
        elif self._first[0] < done < total:
            first, began = self._first
            left = f", {_duration((now - began) / (done - first) * (total - done))} left"
        self._write(f"step {done} of {total} ▕{bar(done / max(total, 1), STEPS_WIDTH)}▏{left}")

    def clear(self) -> None:
        self._write("")

    def _write(self, text: str) -> None:
        if self._visible:
            self._out.write(f"\r\x1b[K{text}")
            self._out.flush()


def bar(share: float, width: int) -> str:
    """A bar of `width` characters, filled to an eighth of a character."""
    whole, part = divmod(round(share * width * 8), 8)
    return ("█" * whole + (BLOCKS[part] if part else "")).ljust(width)


def _duration(seconds: float) -> str:
    whole = max(round(seconds), 1)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02d} s"
