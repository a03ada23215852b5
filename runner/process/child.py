"""A runner as a child process: how it is started, what it prints, how it ends."""

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
from runner.process.last_error import STAMP, LastWords

log = logging.getLogger("diptych.runner")

# -P: a folder called runner where we happen to stand is not the package.
RUNNER = (sys.executable, "-P", "-m", "runner")
# A line longer than this is passed on in pieces.
LONGEST_LINE = 64 * 1024
# Pipes outlive a process when it has children of its own; nobody waits for those.
PIPE_DRAIN_S = 1.0


def check_platform(system: str = sys.platform, machine: str | None = None) -> None:
    """Refuse, by name, what MLX cannot run on; Linux and Windows are decided by what MLX finds when it starts."""
    machine = machine or platform.machine()
    if system == "darwin" and machine != "arm64":
        raise ModelNotSupported(
            f"on macOS, MLX needs Apple silicon and a Python made for it (arm64); this one is {machine}"
        )
    if system not in ("darwin", "linux", "win32"):
        raise ModelNotSupported(f"Diptych runs on macOS, Linux and Windows; this is {system}")


class Child:
    """One running process. Its stdin is a pipe that nobody writes to: its end tells the child that we are gone."""

    def __init__(self, process: asyncio.subprocess.Process, label: str) -> None:
        self._process = process
        self._label = label
        self._first: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._said = LastWords()
        self._killed_because = ""
        self._readers = [
            asyncio.create_task(self._read_output()),
            asyncio.create_task(self._read_errors()),
        ]
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
        """`python -m runner ARGUMENTS`, or another command; what it prints goes to the log under `label`.

        `keep`: files that stay open in it. `variables`: what its environment has beside what it needs of ours.
        `downloads`: it has to fetch its model, and gets the hub's token.
        """
        command = [*(command or RUNNER), *arguments]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(key, downloads=downloads) | dict(variables or {}),
                cwd=_place(),
                pass_fds=keep,
                **_apart(),
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
        """Why we killed it, else the last error in its log; empty when it has none."""
        return self._killed_because or self._said.error

    @property
    def last_words(self) -> str:
        """Its last error and how it ended: `no such model (exit 1)`."""
        said = self.last_error or "the runner logged no error"
        return f"{said} ({self.ending})" if self.has_exited else said

    @property
    def ending(self) -> str:
        """How it ended: `exit 1`, `killed by SIGKILL`; empty while it has not."""
        code = self._process.returncode
        return "" if code is None else _ending(code)

    async def first_line(self) -> str:
        """What it printed first; empty when it ended without."""
        return await asyncio.shield(self._first)

    async def wait(self) -> int:
        """The exit code, once it has ended and its last words are read."""
        return await asyncio.shield(self._waiter)

    async def ended(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        return bool((await asyncio.wait([self._waiter], timeout=seconds))[0])

    async def stop(self, patience: float) -> int:
        """Interrupt it; kill it when it is still there after so many seconds."""
        self._signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
        if not await self.ended(patience):
            self.kill()
        return await self.wait()

    def kill(self, why: str = "") -> None:
        """`why` stands in for its last error."""
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
            self._said.hear(line)

    def _forward(self, line: str) -> None:
        stamp = STAMP.match(line)
        level = logging.getLevelNamesMapping()[stamp[1].upper()] if stamp else logging.INFO
        log.log(level, "%s: %s", self._label, line[stamp.end() :] if stamp else line)


def _place() -> str | None:
    """Where a runner stands: where we do, unless that folder is no more."""
    try:
        os.getcwd()
    except OSError:
        return os.path.abspath(os.sep)
    return None


def _apart() -> dict[str, Any]:
    """Out of our process group: a Ctrl-C in the terminal is ours to pass on, when the work in flight has ended."""
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
    """Lines without their ends; an endless one in pieces."""
    pending = b""
    while chunk := await stream.read(LONGEST_LINE):
        *whole, pending = (pending + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
        if len(pending) > LONGEST_LINE:
            yield pending.decode(errors="replace")
            pending = b""
    if pending:
        yield pending.decode(errors="replace")
