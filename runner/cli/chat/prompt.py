"""Reading a prompt from a terminal, several lines of it, with a history; and writing what a model says to one."""

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

# What moves the cursor, changes colours or talks to the terminal: a model's words must not.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Reader:
    """Prompts from the user. `read` raises EOFError at Ctrl-D, KeyboardInterrupt at Ctrl-C."""

    def __init__(self) -> None:
        self._readline = _with_history()

    def read(self) -> str:
        """One prompt: a line; lines that end with a backslash; or everything between two triple quotes."""
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
        """Keep the history for the next time."""
        if self._readline is not None:
            with contextlib.suppress(OSError):
                history_file().parent.mkdir(parents=True, exist_ok=True)
                self._readline.set_history_length(HISTORY)
                self._readline.write_history_file(history_file())
                history_file().chmod(0o600)


def _line(prompt: str) -> str:
    """What was typed; bytes that are no UTF-8 become replacement characters."""
    return input(prompt).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _with_history() -> ModuleType | None:
    """The module that edits lines and remembers them."""
    try:
        import readline
    except ImportError:
        return None  # not on this system: lines are typed without it
    try:
        readline.read_history_file(history_file())
    except FileNotFoundError:
        readline.clear_history()
    except OSError as error:
        warn(f"the history {history_file()} cannot be read: {error.strerror or error}")
    return readline


def history_file() -> Path:
    return state_folder() / "history"


def harmless(text: str) -> str:
    """A model's words without what would steer the terminal."""
    return _CONTROLS.sub("", text)


def write(text: str) -> None:
    """To the user at once; unchanged where a program reads."""
    sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
