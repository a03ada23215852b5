"""What is loaded is not looked up: its requests read no file, however long ago it was loaded."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runner.api.registry import APIS
from runner.gateway import resolver
from runner.gateway.app import Gateway
from runner.gateway.settings import Settings
from runner.process import child
from tests.runner.ollama_store import store_model
from tests.runner.pretend import RUNNER, pretend_model
from tests.waiting import PATIENCE

CHAT = [{"role": "user", "content": "Why"}]
# The runner of a stored model behaves as the folder says that it was made from.
STORED = "import runpy, sys; sys.argv[1:] = ['--model={}']; runpy.run_path({!r}, run_name='__main__')"

REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/completion", {"prompt": "Why"}),
    ("/tokenize", {"content": "Why"}),
    ("/v1/chat/completions", {"messages": CHAT, "stream": True}),
    ("/v1/completions", {"prompt": "Why", "stream": True}),
    ("/api/chat", {"messages": CHAT}),
    ("/api/generate", {"prompt": "Why"}),
]

opened: list[str] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if opened is not None and event in ("open", "os.scandir", "os.listdir"):
        opened.append(str(arguments[0]))


@contextmanager
def reads(folder: Path) -> Iterator[list[str]]:
    """The paths under a folder that this process opens or lists meanwhile."""
    global opened
    opened, actual = [], []
    try:
        yield actual
    finally:
        actual += [path for path in opened if path.startswith(str(folder))]
        opened = None


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    gateway = Gateway(settings)
    gateway.pool.start()
    transport = httpx2.ASGITransport(gateway.asgi(APIS))
    try:
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://localhost", timeout=PATIENCE
        ) as client:
            yield client
    finally:
        await gateway.pool.close(0)


@pytest.fixture(scope="module", autouse=True)
def hook() -> None:
    sys.addaudithook(_note)


@pytest.fixture
def look_ups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are looked up."""
    names: list[str] = []
    find_here = resolver.find_here
    monkeypatch.setattr(
        resolver, "find_here", lambda name, **args: (names.append(name), find_here(name, **args))[1]
    )
    return names


async def ask(client: httpx2.AsyncClient, path: str, model: str, body: dict[str, Any]) -> None:
    response = await client.post(path, json={"model": model, **body})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(("path", "body"), REQUESTS, ids=[path for path, _ in REQUESTS])
@pytest.mark.parametrize("name", ["toy", "x/toy:1b"])
def test_a_loaded_model_is_not_looked_up(
    path: str,
    body: dict[str, Any],
    name: str,
    look_ups: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = pretend_model(tmp_path / "models" / "toy")
    store_model(
        tmp_path / "models" / "store", "registry.ollama.ai/x/toy/1b", folder, params={"top_k": 3}, system="Hi"
    )
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models" / "store"))
    monkeypatch.setattr(
        child,
        "RUNNER",
        RUNNER if name == "toy" else (sys.executable, "-P", "-c", STORED.format(folder, RUNNER[-1])),
    )

    async def go() -> None:
        async with serving(Settings(aliases={"toy": str(folder)}, memory=1 << 30)) as client:
            with reads(tmp_path / "models") as files:
                await ask(client, path, name, body)
            assert look_ups
            assert files
            look_ups.clear()
            monkeypatch.setattr(resolver, "CACHE_S", 0.0)  # as if the look-up had been long ago
            with reads(tmp_path / "models") as files:
                for _ in range(3):
                    await ask(client, path, name, body)
            assert look_ups == []
            assert files == []

    asyncio.run(go())


def test_the_name_that_ollamas_clients_give_an_alias_is_not_looked_up_either(
    look_ups: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pretend_model(tmp_path / "toy")
    monkeypatch.setattr(child, "RUNNER", RUNNER)

    async def go() -> None:
        async with serving(Settings(aliases={"toy": str(folder)}, memory=1 << 30)) as client:
            await ask(client, "/api/chat", "toy:latest", {"messages": CHAT})
            look_ups.clear()
            monkeypatch.setattr(resolver, "CACHE_S", 0.0)
            with reads(tmp_path) as files:
                await ask(client, "/api/chat", "toy:latest", {"messages": CHAT})
                await ask(client, "/api/generate", "toy", {"prompt": "Why"})
            assert look_ups == []
            assert files == []

    asyncio.run(go())


def test_a_model_that_has_ended_is_looked_up_again(
    look_ups: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pretend_model(tmp_path / "toy")
    monkeypatch.setattr(child, "RUNNER", RUNNER)

    async def go() -> None:
        async with serving(Settings(aliases={"toy": str(folder)}, memory=1 << 30)) as client:
            await ask(client, "/api/chat", "toy", {"messages": CHAT})
            await ask(client, "/models/stop", "toy", {})
            look_ups.clear()
            monkeypatch.setattr(resolver, "CACHE_S", 0.0)
            await ask(client, "/api/chat", "toy", {"messages": CHAT})
            assert look_ups

    asyncio.run(go())
