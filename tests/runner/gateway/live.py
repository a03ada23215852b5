"""A gateway to ask in tests: a real process, over real runners or over ones that behave as they are told."""

import contextlib
import json
import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import httpx2

from tests.runner.live import Event, Program, events
from tests.runner.pretend import RUNNER
from tests.waiting import PATIENCE, wait_until

LAUNCH = """
import json, signal, sys, time
import runner.process.child
import runner.process.startup
import runner.process.supervisor
from runner import logs
from runner.api.registry import APIS
from runner.gateway import serve
from runner.gateway.settings import Settings
from runner.process.parent import die_with_parent
said = json.loads(sys.argv[1])
if said.pop("pretend"):
    runner.process.child.RUNNER = tuple(said.pop("runner"))
if "health_timeout" in said:
    runner.process.supervisor.HEALTH_TIMEOUT = said.pop("health_timeout")
if "addresses" in said:
    addresses = said.pop("addresses")
    said["replicas_of"] = lambda model: tuple(addresses[model]) if model in addresses else None
if "stall" in said:
    runner.process.startup.STALL = said.pop("stall")
# What blocks its event loop for a while, as a very long request once did.
signal.signal(signal.SIGUSR1, lambda number, frame: time.sleep(4))
die_with_parent()
logs.setup()
if said["port"]:
    print(said["port"], flush=True)
tuples = {key: tuple(value) for key, value in said.items() if isinstance(value, list)}
sys.exit(serve.run(Settings(**{**said, **tuples}), APIS))
"""


class Gateway(Program):
    """`folders` are the models, by their aliases; the rest are Settings."""

    def __init__(
        self,
        folders: dict[str, Path],
        /,
        pretend: bool = True,
        key: str | None = None,
        log: str | None = None,
        environment: dict[str, str] | None = None,
        **settings: Any,
    ) -> None:
        said = {
            "aliases": {name: str(folder) for name, folder in folders.items()},
            "port": 0,
            "health_every": 0.2,
            "pretend": pretend,
            "runner": RUNNER,
            **settings,
        }
        if not pretend:
            del said["runner"]
        super().__init__([sys.executable, "-c", LAUNCH, json.dumps(said)], key, log, environment)
        if said["port"]:
            wait_until(self._listens, lambda: self.log)

    def _listens(self) -> bool:
        with contextlib.suppress(httpx2.TransportError):
            return self.http.get("/healthz").status_code == 200
        return False

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            base_url=self.url, timeout=PATIENCE, limits=httpx2.Limits(max_connections=None)
        )

    def ask(self, model: str, prompt: str = "Why", **body: Any) -> httpx2.Response:
        return self.http.post("/completion", json={"model": model, "prompt": prompt, **body})

    def events(self, model: str, **body: Any) -> list[Event]:
        return events(self.ask(model, **body))

    def models(self) -> dict[str, Event]:
        """What is loaded, by the folder's name."""
        answer = self.http.get("/models").json()["models"]
        return {Path(model["name"]).name: model for model in answer}

    def metric(self, name: str) -> float:
        """A metric's value, summed over its labels."""
        text = self.http.get("/metrics").text
        return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE))

    def wait_until(self, what: Any, seconds: float = PATIENCE) -> None:
        wait_until(what, lambda: f"{self.models()}\n{self.log}", seconds)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and ") Z" in stat.read_text()


class Streaming(threading.Thread):
    """A completion that is being read."""

    def __init__(self, gateway: Gateway, model: str, **body: Any) -> None:
        super().__init__(daemon=True)
        self._gateway = gateway
        self._body = {"model": model, "prompt": "x", **body}
        self.seen: list[dict[str, Any]] = []
        self.start()
        gateway.wait_until(lambda: self.seen)

    def run(self) -> None:
        url = f"{self._gateway.url}/completion"
        with (
            contextlib.suppress(httpx2.TransportError),  # the gateway was ended: what was seen, was seen
            httpx2.stream("POST", url, json=self._body, timeout=PATIENCE) as response,
        ):
            for line in response.iter_lines():
                self.seen.append(json.loads(line))

    def last(self) -> dict[str, Any]:
        self.join(PATIENCE)
        assert not self.is_alive()
        return self.seen[-1]
