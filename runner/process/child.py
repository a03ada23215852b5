"""A runner as a child process: its start, its output, its end."""

import asyncio
import logging
import os
import platform
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from runner.errors import ModelNotSupported, RunnerFailed
from runner.process.environment import environment
from runner.process.last_error import STAMP, LastError

log = logging.getLogger("diptych.runner")

# -P: a folder named runner in the working directory must not be imported.
RUNNER = (sys.executable, "-P", "-m", "runner")
# Longer lines are logged in pieces.
MAX_LINE_BYTES = 64 * 1024
# Grandchildren may keep the pipes open after the process has exited: its output is read for so long, in seconds.
PIPE_DRAIN_S = 1.0


def check_platform(system: str = sys.platform, machine: str | None = None) -> None:
    """Refuse platforms that MLX does not support. On Linux and Windows, MLX itself decides when it starts."""
    machine = machine or platform.machine()
    if system == "darwin" and machine != "arm64":
        raise ModelNotSupported(
            f"on macOS, MLX needs Apple silicon and a native Python (arm64); this Python is {machine}"
        )
    if system not in ("darwin", "linux", "win32"):
        raise ModelNotSupported(f"Diptych runs on macOS, Linux and Windows; this is {system}")


class Child:
    """One running process. Its stdin is a pipe without data, whose end tells the child that its parent is gone."""

    def __init__(self, process: asyncio.subprocess.Process, label: str) -> None:
        self._process = process
        self._label = label
        self._first: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._error = LastError()
        self._killed_because = ""
        self._readers = [asyncio.create_task(self._read_output()), asyncio.create_task(self._read_errors())]
        self._waiter = asyncio.create_task(self._wait())

    @classmethod
    async def start(
        cls,
        arguments: Sequence[str],
        label: str,
        key: str | None = None,
        *,
        command: Sequence[str] = (),
        keep: Sequence[int] = (),
        variables: Mapping[str, str] | None = None,
        downloads: bool = False,
    ) -> "Child":
        """`python -m runner ARGUMENTS`, or another command. Its output is logged under `label`.

        `keep`: file descriptors to inherit. `variables`: set in its environment beside what it needs of ours.
        `downloads`: it has to download its model, so it gets the hub's token.
        """
        command = [*(command or RUNNER), *arguments]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(key, downloads=downloads) | dict(variables or {}),
                cwd=_working_folder(),
                pass_fds=keep,
                **_new_session(),
            )
        except OSError as error:
            raise RunnerFailed(f"a runner could not be started: {error.strerror or error}") from None
        return cls(process, label)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_exited(self) -> bool:
        return self._process.returncode is not None

    @property
    def last_error(self) -> str:
        """Why it was killed, otherwise the last error in its log; empty when there is none."""
        return self._killed_because or self._error.error

    @property
    def last_words(self) -> str:
        """Its last error and how it ended: `no such model (exit 1)`."""
        error = self.last_error or "the runner logged no error"
        return f"{error} ({self.ending})" if self.has_exited else error

    @property
    def ending(self) -> str:
        """How it ended: `exit 1`, `killed by SIGKILL`; empty while it runs."""
        code = self._process.returncode
        return "" if code is None else _ending(code)

    async def first_line(self) -> str:
        """The first line of its output; empty when it ended without one."""
        return await asyncio.shield(self._first)

    async def wait(self) -> int:
        """The exit code, once it has ended and its output has been read."""
        return await asyncio.shield(self._waiter)

    async def ended(self, seconds: float) -> bool:
        """Whether it ends within this time."""
        return bool((await asyncio.wait([self._waiter], timeout=seconds))[0])

    async def stop(self, kill_after: float) -> int:
        """Interrupt it, and kill it if it has not ended in time."""
        self._signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
        if not await self.ended(kill_after):
            self.kill()
        return await self.wait()

    def kill(self, why: str = "") -> None:
        """`why` replaces its last error."""
        if not self.has_exited:
            self._killed_because = why
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _signal(self, number: int) -> None:
        if not self.has_exited:
            try:
                self._process.send_signal(number)
            except ProcessLookupError:
                log.debug("%s has ended already", self._label)

    async def _wait(self) -> int:
        code = await self._process.wait()
        await asyncio.wait(self._readers, timeout=PIPE_DRAIN_S)
        for reader in self._readers:
            reader.cancel()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return code

    async def _read_output(self) -> None:
        assert self._process.stdout is not None
        try:
            async for line in _lines(self._process.stdout):
                if self._first.done():
                    self._forward(line)
                else:
                    self._first.set_result(line)
        finally:
            if not self._first.done():
                self._first.set_result("")

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        async for line in _lines(self._process.stderr):
            self._forward(line)
            self._error.feed(line)

    def _forward(self, line: str) -> None:
        stamp = STAMP.match(line)
        level = logging.getLevelNamesMapping()[stamp[1].upper()] if stamp else logging.INFO
        log.log(level, "%s: %s", self._label, line[stamp.end() :] if stamp else line)


def _working_folder() -> str | None:
    """Ours, unless it has been deleted."""
    try:
        os.getcwd()
    except OSError:
        return os.path.abspath(os.sep)
    return None


def _new_session() -> dict[str, Any]:
    """In a process group of its own: Ctrl-C in the terminal reaches only us, and we stop the runners in an orderly way."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines without their line ends; very long ones in pieces."""
    pending = b""
    while chunk := await stream.read(MAX_LINE_BYTES):
        *whole, pending = (pending + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
        if len(pending) > MAX_LINE_BYTES:
            yield pending.decode(errors="replace")
            pending = b""
    if pending:
        yield pending.decode(errors="replace")
