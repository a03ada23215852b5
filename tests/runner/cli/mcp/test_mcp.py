"""`diptych mcp` by the SDK's own client, over a gateway with toys: standard input and output, HTTP, errors."""

import argparse
import asyncio
import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runner.cli.commands import mcp as command
from runner.errors import ConfigInvalid
from tests.pipelines import toys
from tests.processes import RUN
from tests.runner.gateway.live import Gateway
from tests.toys import toy_text
from tests.waiting import PATIENCE

mcp = pytest.importorskip("mcp", reason="the clients group is not installed")

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HOME", "OLLAMA_MODELS"):
            patch.setenv(name, str(home / name))
        patch.setenv("HF_HUB_OFFLINE", "1")
        folders = {"toy": toy_text(), "klein": toys.write("klein", home / "klein").folder}
        with Gateway(
            folders, pretend=False, memory=64 * 1024**3, force=True, key="k1", keys=["k1"]
        ) as gateway:
            patch.setenv("DIPTYCH_PORT", str(gateway.port))
            patch.setenv("DIPTYCH_API_KEY", "k1")
            yield gateway


def spoken_to(server: Any, work: Any) -> Any:
    async def main() -> Any:
        async with mcp.Client(server, read_timeout_seconds=PATIENCE) as client:
            return await work(client)

    return asyncio.run(main())


def test_without_the_sdk_the_command_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    monkeypatch.delitem(sys.modules, "runner.cli.mcp.server", raising=False)
    with pytest.raises(ConfigInvalid, match="uv sync --extra mcp"):
        command.run(argparse.Namespace(configuration=None, http=None))


def pictures(result: Any) -> list[bytes]:
    assert not result.is_error, result.content
    return [base64.b64decode(one.data) for one in result.content if one.type == "image"]


def words(result: Any) -> str:
    return "".join(one.text for one in result.content if one.type == "text")


def test_an_agent_that_starts_it_draws_edits_chats_and_lists(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[float, float | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append((progress, total))

    async def work(client: Any) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools.keys() == {"models", "chat", "draw", "edit"}
        assert tools["draw"].input_schema["required"] == ["prompt"]
        assert "seed" in tools["draw"].input_schema["properties"]
        listed = words(await client.call_tool("models", {}))
        assert "klein" in listed
        assert "toy" in listed
        size = {"width": 64, "height": 64, "seed": 7}
        drawn = await client.call_tool(
            "draw", {"prompt": "a red circle", "steps": 2, **size}, progress_callback=on_progress
        )
        (picture,) = pictures(drawn)
        assert picture.startswith(PNG)
        assert "64 x 64, seed 7" in words(drawn)
        assert steps[-1] == (2, 2)
        file = tmp_path / "a.png"
        file.write_bytes(picture)
        for sent in (str(file), f"data:image/png;base64,{base64.b64encode(picture).decode()}"):
            edited = await client.call_tool(
                "edit", {"prompt": "a blue one", "pictures": [sent], "steps": 1, **size}
            )
            assert pictures(edited)[0].startswith(PNG)
        answer = await client.call_tool(
            "chat", {"prompt": "Why?", "max_tokens": 5, "model": "toy", "system": "Be brief."}
        )
        assert words(answer)
        for tool, arguments, error in (
            ("draw", {"prompt": "x", "width": 10**6}, "width"),
            ("draw", {"prompt": "x", "model": "nobody"}, "nobody"),
            ("edit", {"prompt": "x", "pictures": ["no picture"]}, "pictures[0]"),
            ("chat", {"prompt": "x", "model": "klein"}, "klein makes pictures, not text"),
        ):
            failed = await client.call_tool(tool, arguments)
            assert failed.is_error
            assert error in words(failed)

    spoken_to(
        mcp.StdioServerParameters(command=sys.executable, args=["-m", "runner", "mcp"], env=dict(os.environ)),
        work,
    )


def test_over_http_it_needs_the_gateways_key_and_reads_no_files(gateway: Gateway, tmp_path: Path) -> None:
    program = subprocess.Popen(
        [*RUN, "mcp", "--http", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout
        url = program.stdout.readline().strip()
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        headers = {"accept": "application/json, text/event-stream"}
        assert httpx2.post(url, json=body, headers=headers).status_code == 401
        keyed = {**headers, "authorization": "Bearer k1"}
        assert (
            httpx2.post(url, json=body, headers={**keyed, "origin": "https://evil.example"}).status_code
            == 403
        )
        assert httpx2.post(url, json=body, headers={**keyed, "host": "evil.example"}).status_code == 403
        file = tmp_path / "a.png"
        file.write_bytes(PNG)

        async def work() -> Any:
            from mcp.client.streamable_http import streamable_http_client

            async with httpx2.AsyncClient(headers={"authorization": "Bearer k1"}, timeout=PATIENCE) as http:
                transport = streamable_http_client(url, http_client=http)
                async with mcp.Client(transport, read_timeout_seconds=PATIENCE) as client:
                    drawn = await client.call_tool(
                        "draw", {"prompt": "x", "width": 32, "height": 32, "steps": 1}
                    )
                    refused = await client.call_tool("edit", {"prompt": "x", "pictures": [str(file)]})
                    return drawn, refused

        drawn, refused = asyncio.run(work())
        assert pictures(drawn)[0].startswith(PNG)
        assert refused.is_error
        assert "a data URI or base64 is needed" in words(refused)
    finally:
        program.kill()
        program.communicate()
