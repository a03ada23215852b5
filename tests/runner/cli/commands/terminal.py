"""A program on a terminal of its own, typed to and read as a person would."""

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import ROOT
from tests.processes import sleeping
from tests.toys import toy_text
from tests.waiting import PATIENCE, wait_until

CTRL_C, CTRL_D = "\x03", "\x04"
# What readline writes around a line: bracketed paste, and the like.
_ESCAPES = re.compile(r"\x1b\[[?0-9;]*[a-zA-Z]")


def endless() -> Path:
    """A model whose answer to anything goes on for minutes: what happens in the middle of it happens in time."""
    return toy_text("qwen3", max_position_embeddings=200_000)


class Terminal:
    """`diptych ARGUMENTS` on a pseudo-terminal that sends signals as a real one does."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._screen, other = pty.openpty()
        self.seen = ""
        self._read = 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "runner", *arguments],
            cwd=ROOT,
            env={**os.environ, "TERM": "dumb", **(environment or {})},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(other)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._screen)

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def interrupt_prompt(self) -> None:
        """Ctrl-C at a prompt, once the program sleeps there. Python's input() would lose a signal that arrives after
        readline has written the prompt and before it waits for a key (until the next key, as a person would type it).
        """
        wait_until(lambda: sleeping(self.process.pid))
        self.type(CTRL_C)

    def until(self, pattern: str, seconds: float = PATIENCE) -> re.Match[str]:
        """Wait for something to appear after what was waited for last."""
        end = time.monotonic() + seconds
        while (actual := re.compile(pattern).search(self.seen, self._read)) is None:
            if not self._more(end - time.monotonic()):
                raise AssertionError(f"{pattern!r} did not appear after: {self.seen[self._read :]!r}")
        self._read = actual.end()
        return actual

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit code, once it has ended."""
        end = time.monotonic() + seconds
        while self._more(end - time.monotonic()):
            continue
        return self.process.wait(timeout=max(end - time.monotonic(), 1))

    def _more(self, seconds: float) -> bool:
        """Read what there is; False when the time is over or nobody writes any more."""
        if seconds <= 0 or not select.select([self._screen], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._screen, 65536)
        except OSError:
            return False  # the other side has been closed
        self.seen += _ESCAPES.sub("", data.decode(errors="replace"))
        return bool(data)
