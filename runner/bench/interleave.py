"""Engines as processes that take turns, so that other load on the machine falls on all of them."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from runner.bench.servers import environment
from runner.errors import RunnerFailed

ROOT = Path(__file__).resolve().parent.parent.parent
STOP_TIMEOUT_S = 10.0
T = TypeVar("T")
Log = Callable[[str], None]  # takes messages of progress


class EngineFailed(RunnerFailed):
    """An engine ended or reported an error; the message is its own."""


class Engine:
    """One engine's process. `where`: another interpreter, or a folder of packages to put before ours."""

    def __init__(self, name: str, where: Path | None = None) -> None:
        self.name = name
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        variables = environment()
        paths, python = [str(ROOT), variables.get("PYTHONPATH", "")], sys.executable
        if where is not None and where.is_file():
            paths, python = [str(ROOT)], str(where)  # with its own packages, without ours
        elif where is not None:
            paths = [str(where), *paths]
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        self._process = subprocess.Popen(
            [python, "-P", "-m", "runner.bench.workload", name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=variables, text=True,
        )  # fmt: skip

    def ask(self, do: str, **job: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"do": do, **job}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            raise EngineFailed(f"{self.name} ended (exit {code}): {self._last_line()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineFailed(f"{self.name}: {answer['error']}")
        return answer

    def stop(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _last_line(self) -> str:
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 2000))
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"


@contextlib.contextmanager
def running(name: str, where: Path | None = None) -> Iterator[Engine]:
    engine = Engine(name, where)
    try:
        yield engine
    finally:
        engine.stop()


def in_turn(items: Sequence[T], number: int) -> list[T]:
    """The order of round `number`: the first of one round is the last of the next."""
    at = number % max(len(items), 1)
    return [*items[at:], *items[:at]]


def why_missing(engine: str, mflux: Path | None, draws: bool = True) -> str | None:
    """Why an engine cannot take part in measuring a model that draws, or one that writes, or None."""
    from importlib.util import find_spec

    torch = ("torch", "diffusers", "transformers") if draws else ("torch", "transformers")
    needs: Mapping[str, tuple[str, ...]] = {
        "torch": torch,
        "torch-compile": torch,
        "mflux": () if mflux is not None else ("mflux",),
        "mlx-lm": ("mlx_lm",),
        "mlx_lm.server": ("mlx_lm",),
    }
    absent = [module for module in needs.get(engine, ()) if find_spec(module) is None]
    return f"{', '.join(absent)} not installed" if absent else None
