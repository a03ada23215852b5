"""Libraries for agents, each in a short scenario: a structured answer, a call of a tool, a stream."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.runner.gateway.live import Gateway


@pytest.mark.slow
def test_pydantic_ai(gateway: Gateway, calling: Gateway) -> None:
    pytest.importorskip("pydantic_ai")
    from pydantic import BaseModel
    from pydantic_ai import Agent, NativeOutput
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    class Place(BaseModel):
        far: bool

    def model(of: Gateway, name: str) -> OpenAIChatModel:
        return OpenAIChatModel(name, provider=OpenAIProvider(base_url=f"{of.url}/v1", api_key="none"))

    result = Agent(model(gateway, "toy"), output_type=NativeOutput(Place)).run_sync("Is the sea far?")
    assert isinstance(result.output, Place)
    assert result.usage.input_tokens > 0
    assert result.usage.output_tokens > 0
    called: list[tuple[str, bool]] = []

    async def first_calls() -> Any:
        agent = Agent(model(calling, "caller"))

        @agent.tool_plain
        def look(at: str, far: bool) -> str:
            called.append((at, far))
            return "It is blue."

        @agent.tool_plain
        def wait() -> str:
            return "Done."

        async with agent.iter("Look at the sea.") as run:
            async for node in run:
                if called:
                    return node
        return None

    # This model says the same whatever it is told, so the run is left after its first calls.
    assert asyncio.run(first_calls()) is not None
    assert called == [("sea", True)]


@pytest.mark.slow
def test_openai_agents(calling: Gateway, gateway: Gateway) -> None:
    agents = pytest.importorskip("agents")
    from openai import AsyncOpenAI
    from pydantic import BaseModel

    class Place(BaseModel):
        far: bool

    agents.set_tracing_disabled(True)
    called: list[tuple[str, bool]] = []

    @agents.function_tool
    def look(at: str, far: bool) -> str:
        called.append((at, far))
        return "It is blue."

    @agents.function_tool
    def wait() -> str:
        return "Done."

    async def run() -> None:
        for kind in (agents.OpenAIChatCompletionsModel, agents.OpenAIResponsesModel):
            called.clear()
            async with AsyncOpenAI(base_url=f"{calling.url}/v1", api_key="none") as client:
                looker = agents.Agent(
                    name="looker",
                    model=kind("caller", client),
                    tools=[look, wait],
                    tool_use_behavior="stop_on_first_tool",
                )
                result = await agents.Runner.run(looker, "Look at the sea.", max_turns=2)
                assert result.final_output == "It is blue."
            assert called == [("sea", True)]
            async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none") as client:
                placer = agents.Agent(name="placer", model=kind("toy", client), output_type=Place)
                result = await agents.Runner.run(placer, "Is the sea far?", max_turns=1)
                assert isinstance(result.final_output, Place)
                assert result.context_wrapper.usage.output_tokens > 0

    asyncio.run(run())


@pytest.mark.slow
def test_llm(gateway: Gateway, tmp_path: Path) -> None:
    pytest.importorskip("llm")
    (tmp_path / "extra-openai-models.yaml").write_text(
        json.dumps(
            [
                {
                    "model_id": "toy",
                    "model_name": "toy",
                    "api_base": f"{gateway.url}/v1",
                    "supports_schema": True,
                }
            ]
        )
    )
    environment = {
        **os.environ,
        "LLM_USER_PATH": str(tmp_path),
        "OPENAI_API_KEY": "none",
        "LLM_LOAD_PLUGINS": "",
    }

    def llm(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "llm", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    options = ("-o", "max_tokens", "8", "-o", "seed", "1")
    streamed = llm("-m", "toy", *options, "The sea")
    assert streamed.strip()
    assert llm("-m", "toy", "--no-stream", *options, "The sea") == streamed
    logged = json.loads(llm("logs", "--json", "-n", "1"))[0]
    assert (logged["input_tokens"] > 0, logged["output_tokens"]) == (True, 8)
    place = json.loads(llm("-m", "toy", "--no-stream", "--schema", "far bool", "Is the sea far?"))
    assert isinstance(place["far"], bool)
