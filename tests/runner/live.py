"""Runners to ask in tests: inside this process where that is quicker, or as the real process."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx2

from runner.engine.engine import Engine
from runner.server.app import RunnerApp
from runner.sources import ModelMode, find
from tests import ROOT
from tests.processes import RUN
from tests.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from runner.engine.text.worker import TextSettings

Event = dict[str, Any]


@contextlib.asynccontextmanager
async def in_process(
    folder: Path, settings: "TextSettings | None" = None, queue: int = 512
) -> AsyncIterator[httpx2.AsyncClient]:
    """A runner's app over its engine, without the socket."""
    from runner.engine.text.worker import (  # seconds that tests of processes need not wait
        TextSettings,
        load_text_worker,
    )

    local = find(str(folder)).fetch(ModelMode.TEXT)
    engine = Engine(
        lambda progress: load_text_worker(local, settings or TextSettings(), progress), queue=queue
    )
    app = RunnerApp(engine, str(folder), stop=lambda: None)
    engine.start()
    try:
        while engine.worker is None:
            assert not engine.error, engine.error
            await asyncio.sleep(0.01)
        transport = httpx2.ASGITransport(app.asgi)
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://localhost", timeout=PATIENCE
        ) as client:
            yield client
    finally:
        await engine.close()
        app.close()


def events(response: httpx2.Response) -> list[Event]:
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.content.splitlines()]


def tokens(stream: list[Event]) -> list[int]:
    assert stream[-1].get("done") is True
    assert not stream[-1].get("error"), stream[-1]
    return [event["token"] for event in stream if "token" in event]


def text(stream: list[Event]) -> str:
    return "".join(event.get("content", "") for event in stream)


async def complete(client: httpx2.AsyncClient, prompt: str, **options: Any) -> list[Event]:
    return events(await client.post("/completion", json={"prompt": prompt, "options": options}))


class Program:
    """A process of ours that serves, and prints its port first. It ends with this one."""

    def __init__(
        self,
        command: Sequence[str],
        key: str | None = None,
        log: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        # A file: a pipe that is not read would fill up and stop the program.
        self._log = open(log, "w") if log else tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed on exit
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **(environment or {})},
            text=True,
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.log
        self.port = int(line)
        self.url = f"http://127.0.0.1:{self.port}"
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx2.Client(base_url=self.url, timeout=PATIENCE, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self._log.close()

    @property
    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def memory(self) -> int:
        """Resident bytes, as the system counts them."""
        command = ["ps", "-o", "rss=", "-p", str(self.process.pid)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1024


class Live(Program):
    """`python -m runner runner`, once it is healthy."""

    def __init__(
        self, folder: Path, *arguments: str, seconds: float = PATIENCE, key: str | None = None
    ) -> None:
        super().__init__([*RUN, "runner", "--model", str(folder), "--port", "0", *arguments], key=key)
        try:
            wait_until(lambda: self._health() == 200, lambda: self.log, seconds)
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _health(self) -> int:
        assert self.alive, self.log
        return self.http.get("/health").status_code

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.http.get("/v1/status").json()
        return status

    def complete(self, prompt: str, **options: Any) -> list[Event]:
        return events(self.http.post("/completion", json={"prompt": prompt, "options": options}))

    def begin(self, prompt: str, **body: Any) -> socket.socket:
        """A completion on a socket of its own, not read: closing it is a client that leaves."""
        payload = json.dumps({"prompt": prompt, **body}).encode()
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        head = f"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(payload)}\r\n\r\n"
        connection.sendall(head.encode() + payload)
        return connection

    def wait_until_idle(self, seconds: float = PATIENCE) -> dict[str, Any]:
        def idle() -> dict[str, Any] | None:
            status = self.status()
            return None if status["queue"] or status["active"] else status

        actual = wait_until(idle, self.status, seconds)
        assert actual is not None
        return actual

    def ask_to_stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)


@contextlib.contextmanager
def streaming(live: Live, prompt: str, **options: Any) -> Iterator[Iterator[Event]]:
    """A completion whose events are read one after another."""
    body = {"prompt": prompt, "options": options}
    with live.http.stream("POST", "/completion", json=body) as response:
        assert response.status_code == 200
        yield (json.loads(line) for line in response.iter_lines())
