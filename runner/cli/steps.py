"""How far a picture is: one line on stderr, written over and over; nothing where that is no terminal."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

from runner.cli.progress import bar

WIDTH = 24


class Steps:
    def __init__(self, out: TextIO | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._out = out or sys.stderr
        self._now = now
        self._shown = self._out.isatty()
        self._first: tuple[int, float] | None = None  # the first step that was seen done, and when

    def loading(self, share: float) -> None:
        self._write(f"loading ▕{bar(share, WIDTH)}▏ {share:.0%}")

    def step(self, done: int, total: int) -> None:
        """The time left is judged by the steps after the first, which carries the prompt and what is compiled."""
        now, left = self._now(), ""
        if self._first is None:
            self._first = (done, now) if done else None
        elif self._first[0] < done < total:
            begun, began = self._first
            left = f", {_duration((now - began) / (done - begun) * (total - done))} left"
        self._write(f"step {done} of {total} ▕{bar(done / max(total, 1), WIDTH)}▏{left}")

    def clear(self) -> None:
        self._write("")

    def _write(self, text: str) -> None:
        if self._shown:
            self._out.write(f"\r\x1b[K{text}")
            self._out.flush()


def _duration(seconds: float) -> str:
    whole = max(round(seconds), 1)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02d} s"
