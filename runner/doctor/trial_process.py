"""Runs the trials of MLX in a process of their own: a crash is a finding, and another process continues."""

import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO

import msgspec

from runner.doctor.findings import Finding, Status
from runner.doctor.trials import IMPORT, KERNEL, REPORT, Begun
from runner.process.environment import environment

COMMAND = (sys.executable, "-P", "-m", "runner.doctor.trials")
# Without output. Compiling a kernel for the first time may take half a minute.
SILENCE_TIMEOUT_S = 120.0
MAX_CRASHES = 4
LAST_LINES = 3


class Process:
    """One process: its findings, and how it ended."""

    def __init__(self, done: list[str]) -> None:
        self.done = done
        self.under_way: str | None = None
        self.timed_out = False

    def findings(self) -> Iterator[Finding]:
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                (*COMMAND, *self.done), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                env=environment(),
            )  # fmt: skip
            assert process.stdout is not None
            try:
                for line in self._lines(process):
                    if "trial" in (value := msgspec.json.decode(line)):
                        self._begin(msgspec.convert(value, Begun).trial)
                    else:
                        yield msgspec.convert(value, Finding)
            finally:
                process.kill()
                process.stdout.close()
            code = process.wait()
            if code or self.timed_out:
                yield self._crash(code, errors)
            else:
                self._begin(None)

    def _begin(self, trial: str | None) -> None:
        if self.under_way is not None:
            self.done.append(self.under_way)
        self.under_way = trial

    def _lines(self, process: "subprocess.Popen[bytes]") -> Iterator[bytes]:
        assert process.stdout is not None
        timer = self._timer(process)
        try:
            for line in process.stdout:
                timer.cancel()
                yield line
                timer = self._timer(process)
            process.wait(SILENCE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.timed_out = True
        finally:
            timer.cancel()

    def _timer(self, process: "subprocess.Popen[bytes]") -> threading.Timer:
        def end() -> None:
            self.timed_out = True
            process.kill()

        timer = threading.Timer(SILENCE_TIMEOUT_S, end)
        timer.daemon = True
        timer.start()
        return timer

    def _crash(self, code: int, errors: IO[bytes]) -> Finding:
        how = f"took longer than {SILENCE_TIMEOUT_S:.0f} s" if self.timed_out else _ending(code)
        lines = _tail(errors)
        detail = f"the process that tried it {how}" + (f"; its last output: {lines}" if lines else "")
        return Finding(self._section(), self.under_way or "start", Status.FAIL, detail, REPORT)

    def _section(self) -> str:
        if self.under_way in (None, IMPORT):
            return "device"
        return "kernels" if self.under_way.startswith(KERNEL) else "operations"


def run_trials() -> Iterator[Finding]:
    """The findings of all trials."""
    done: list[str] = []
    for _ in range(MAX_CRASHES):
        process = Process(done)
        yield from process.findings()
        if process.under_way is None or process.under_way == IMPORT:
            return
        done.append(process.under_way)
    yield Finding("device", "trials", Status.FAIL, f"given up after {MAX_CRASHES} crashes", REPORT)


def _ending(code: int) -> str:
    if code > 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _tail(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = [line for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    return " | ".join(line.strip()[:300] for line in lines[-LAST_LINES:])
