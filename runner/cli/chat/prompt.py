"""Reads prompts from the terminal, with several lines and a history, and writes answers to it."""

import contextlib
import re
import sys
from pathlib import Path
from types import ModuleType

from runner.paths import state_folder
from runner.terminal import warn

PROMPT = ">>> "
MORE = "... "
FENCE = '"""'
HISTORY = 1000

# Control characters that a model's text must not send to the terminal.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Reader:
    """Reads prompts. `read` raises EOFError at Ctrl-D and KeyboardInterrupt at Ctrl-C."""

    def __init__(self) -> None:
        self._readline = _with_history()

    def read(self) -> str:
        """One prompt: a line, several lines joined by backslashes, or everything between triple quotes."""
        line = _line(PROMPT)
        if line.lstrip().startswith(FENCE):
            return self._fenced(line.lstrip().removeprefix(FENCE))
        lines = [line]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(_line(MORE))
        return "\n".join(lines)

    def _fenced(self, first: str) -> str:
        lines = [first]
        while not lines[-1].rstrip().endswith(FENCE):
            lines.append(_line(MORE))
        lines[-1] = lines[-1].rstrip().removesuffix(FENCE)
        return "\n".join(lines).strip("\n")

    def close(self) -> None:
        """Save the history."""
        if self._readline is not None:
            with contextlib.suppress(OSError):
                history_file().parent.mkdir(parents=True, exist_ok=True)
                self._readline.set_history_length(HISTORY)
                self._readline.write_history_file(history_file())
                history_file().chmod(0o600)


def _line(prompt: str) -> str:
    """A line of input; bytes that are not UTF-8 become replacement characters."""
    return input(prompt).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _with_history() -> ModuleType | None:
    """The module for line editing, with the history loaded."""
    try:
        import readline
    except ImportError:
        return None  # not available on this system
    try:
        readline.read_history_file(history_file())
    except FileNotFoundError:
        readline.clear_history()
    except OSError as error:
        warn(f"cannot read the history {history_file()}: {error.strerror or error}")
    return readline


def history_file() -> Path:
    return state_folder() / "history"


def harmless(text: str) -> str:
    """A model's text without control characters."""
    return _CONTROLS.sub("", text)


def write(text: str) -> None:
    """Write text at once; unfiltered if the output is not a terminal."""
    sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
