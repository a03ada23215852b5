"""What the page's settings show: where things are, the gateway's limits, and what `diptych doctor` says."""

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from runner.api.lease import DeferredJson
from runner.errors import Busy, RunnerFailed
from runner.gateway.app import Gateway
from runner.http.bodies import JsonResponse
from runner.http.operation import operation
from runner.paths import cache_folder, state_folder
from runner.sources.hub import cache_folder as hub_cache
from runner.sources.ollama_store import store_root

DOCTOR = (sys.executable, "-P", "-m", "runner", "doctor", "--json")
PATIENCE_S = 300.0
LONGEST = 4 * 1024**2


class Place(Struct, frozen=True):
    name: str
    path: str
    exists: bool


class Settings(Struct, frozen=True):
    """`budget` in bytes, and where that number comes from; `keep_alive` in seconds."""

    places: list[Place]
    budget: int
    budget_source: str
    keep_alive: float
    gallery: bool
    keys: bool


class Finding(Struct, frozen=True):
    section: str
    name: str
    status: str
    detail: str
    advice: str = ""


class Report(Struct, frozen=True):
    """As of `diptych doctor --json`."""

    status: str
    seconds: float
    findings: list[Finding]


def routes(gateway: Gateway) -> list[BaseRoute]:
    api = SettingsApi(gateway)
    return [
        Route("/settings", api.settings),
        Route("/settings/doctor", api.doctor, methods=["POST"]),
    ]


class SettingsApi:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._examining = asyncio.Lock()

    @operation("Show where the gateway keeps things, and its limits", answer=Settings)
    async def settings(self, request: Request) -> Any:
        gateway, own = self._gateway, self._gateway.settings
        settings = Settings(
            _places(gateway),
            gateway.pool.budget,
            gateway.budget_source,
            own.keep_alive,
            gateway.gallery is not None,
            bool(own.keys),
        )
        return JsonResponse(settings)

    @operation("Examine this machine, as `diptych doctor` does; takes a while", answer=Report)
    async def doctor(self, request: Request) -> Any:
        if self._examining.locked():
            raise Busy("the machine is being examined already", retry_after=30)
        return DeferredJson(self._examined)

    async def _examined(self) -> Report:
        async with self._examining:
            return _report(await _output())


def _places(gateway: Gateway) -> list[Place]:
    loras = gateway.settings.loras
    folders = {
        "Models from Hugging Face": hub_cache(),
        "Models of Ollama": store_root(),
        "Gallery": gateway.gallery.database.folder if gateway.gallery else None,
        "Responses, history and records": state_folder(),
        "Caches": cache_folder(),
        "Adapters (LoRA)": Path(loras).expanduser() if loras else None,
    }
    return [Place(name, str(path), path.is_dir()) for name, path in folders.items() if path is not None]


async def _output() -> bytes:
    """In a process of its own: what it tries may crash, and must not take the gateway with it."""
    process = await asyncio.create_subprocess_exec(
        *DOCTOR,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=LONGEST,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            output, _ = await process.communicate()
        return output
    except TimeoutError:
        raise RunnerFailed(f"the doctor was not done after {PATIENCE_S:.0f} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _report(output: bytes) -> Report:
    try:
        said = json.loads(output)
        findings = [Finding(**finding) for finding in said["findings"]]
        return Report(said["status"], said["seconds"], findings)
    except (ValueError, KeyError, TypeError) as error:
        raise RunnerFailed(
            f"the doctor's report cannot be read ({error}); `diptych doctor` on the command line says more"
        ) from None
