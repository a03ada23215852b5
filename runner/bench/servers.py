"""The servers that are compared, each a real process, started in the same way."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from runner.errors import RunnerFailed
from runner.hardware import has_gpu_backend
from runner.process.environment import environment as runner_environment

OPENBLAS = (
    "/usr/lib/x86_64-linux-gnu/libopenblas.so.0",
    "/usr/lib/aarch64-linux-gnu/libopenblas.so.0",
    "/usr/lib64/libopenblas.so.0",
    "/usr/lib/libopenblas.so.0",
)


def fast_blas() -> str | None:
    """OpenBLAS, where the system has it: MLX's processor build comes with the slow reference BLAS."""
    if sys.platform != "linux":
        return None
    return next((path for path in OPENBLAS if Path(path).exists()), None)


def environment() -> dict[str, str]:
    """For every process that is measured: all preload the same BLAS, so that it makes no difference."""
    blas = fast_blas()
    variables = {**runner_environment(), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    # mlx_lm.server asks for other ranks as it starts: an MPI that is installed but cannot start would end it.
    variables["MLX_MPI_LIBNAME"] = "none"
    return variables | ({"LD_PRELOAD": blas} if blas else {})


@dataclass(frozen=True)
class ServerKind:
    """How one server is started, and what its requests look like."""

    name: str
    path: str
    module: tuple[str, ...]
    speculates: bool = False  # requests have an option `speculate`

    def command(self, model: Path, port: int, options: Sequence[str] = ()) -> list[str]:
        return [sys.executable, "-m", *self.module, "--model", str(model), "--port", str(port), *options]

    def body(self, prompt: str, tokens: int, temperature: float, seed: int | None) -> dict[str, Any]:
        if self.name == "diptych":
            options: dict[str, Any] = {"num_predict": tokens, "temperature": temperature}
            return {"prompt": prompt, "options": options | ({} if seed is None else {"seed": seed})}
        body: dict[str, Any] = {"prompt": prompt, "max_tokens": tokens, "temperature": temperature}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body | ({} if seed is None else {"seed": seed})


# A machine that has compiled nothing yet can take minutes for the first answer.
START_TIMEOUT_S = 300.0

DIPTYCH = ServerKind("diptych", "/completion", ("runner", "runner"), speculates=True)
# Batching and its prompt cache are on by default.
MLX_LM = ServerKind("mlx_lm.server", "/v1/completions", ("mlx_lm", "server"))


class Process:
    """One running server."""

    def __init__(self, kind: ServerKind, model: Path, options: Sequence[str] = ()) -> None:
        self.kind = kind
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        began = time.perf_counter()
        self.process = subprocess.Popen(
            kind.command(model, self.port, options),
            env=environment() | _compiling(),
            stdout=self.log,
            stderr=self.log,
        )
        self._wait_until_healthy()
        self.healthy_after = time.perf_counter() - began
        self.ask_once()
        self.answers_after = time.perf_counter() - began
        waited = self._wait_until_warm()
        self.warm_after = time.perf_counter() - began if waited else None

    def _wait_until_healthy(self, seconds: float = START_TIMEOUT_S) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RunnerFailed(f"{self.kind.name} ended ({self.process.returncode}):\n{self.tail()}")
            try:
                status, _ = self._request("GET", "/health")
                if status == 200:
                    return
            except OSError:
                status = 0
            time.sleep(0.02)
        raise RunnerFailed(f"{self.kind.name} was not healthy after {seconds} s:\n{self.tail()}")

    def _wait_until_warm(self) -> bool:
        """Diptych compiles kernels while no request is there, and is measured when it has. False if it has none to compile."""
        until, waited = time.monotonic() + START_TIMEOUT_S, False
        while self.kind is DIPTYCH and self.status().get("warming"):
            waited = True
            if time.monotonic() > until:
                raise RunnerFailed(f"{self.kind.name} was still warming up after {START_TIMEOUT_S} s")
            time.sleep(0.1)
        return waited

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_TIMEOUT_S)
        try:
            headers = {"Content-Type": "application/json"} if body else {}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def ask_once(self) -> None:
        """One short completion: mlx_lm.server reports healthy before its weights are loaded."""
        status, answer = self._request("POST", self.kind.path, self.kind.body("Hello", 1, 0.0, None))
        if status != 200:
            raise RunnerFailed(f"{self.kind.name} answered {status}: {answer[:500]!r}")

    def status(self) -> dict[str, Any]:
        """What Diptych's runner says of itself."""
        status, answer = self._request("GET", "/v1/status")
        if status != 200:
            raise RunnerFailed(f"{self.kind.name} answered {status}: {answer[:500]!r}")
        fields: dict[str, Any] = json.loads(answer)
        return fields

    def memory(self) -> float:
        """Resident bytes now."""
        command = ["ps", "-o", "rss=", "-p", str(self.process.pid)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1024

    def processor_seconds(self) -> float:
        return processor_seconds(self.process.pid)

    def tail(self, size: int = 2000) -> str:
        self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, self.log.tell() - size))
        return self.log.read().decode(errors="replace")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def _compiling() -> dict[str, str]:
    """On a processor neither server compiles: MLX would load libraries that others may have put into the temporary folder."""
    return {} if has_gpu_backend() else {"MLX_DISABLE_COMPILE": "1"}


def processor_seconds(pid: int) -> float:
    """Processor time that a process has used so far: unlike speed, it hardly depends on other load on the machine."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    command = ["ps", "-o", "time=", "-p", str(pid)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    minutes, _, seconds = output.strip().rpartition(":")
    return 60 * int(minutes.rpartition(":")[2] or 0) + float(seconds)
