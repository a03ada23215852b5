"""The tools in the words of the Model Context Protocol, by its SDK."""

from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Annotated, Any, TypeVar

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from runner.cli.mcp.work import Drawn, OnStep, Work
from runner.errors import DiptychError
from runner.protocol.text import Options

INSTRUCTIONS = (
    "Language and picture models that run on the user's own machine. `models` lists them; without a model, the tools use "
    "one that is loaded."
)
Model = Annotated[
    str | None, Field(description="a model by its name in `models`; by default one that is loaded")
]
Prompt = Annotated[str, Field(description="what the picture should show")]
Side = Annotated[int | None, Field(description="in pixels; by default the model's own size")]
Steps = Annotated[int | None, Field(description="denoising steps; by default the model's")]
Seed = Annotated[int | None, Field(description="the same seed gives the same picture; by default random")]
Count = Annotated[int, Field(description="how many pictures")]


T = TypeVar("T")


class Tools:
    """Methods whose signatures and descriptions clients see."""

    def __init__(self, work: Work) -> None:
        self._work = work

    async def models(self) -> list[dict[str, Any]]:
        """List the models on this machine: their names, whether they make text or pictures, and what they can do."""
        return await _told(self._work.models())

    async def chat(
        self,
        prompt: Annotated[str, Field(description="the message")],
        model: Model = None,
        system: Annotated[str | None, Field(description="the system message")] = None,
        max_tokens: Annotated[int | None, Field(description="the longest answer, in tokens")] = None,
        temperature: Annotated[float, Field(description="0 is the likeliest answer")] = 0.0,
    ) -> str:
        """Ask a language model on this machine; the answer is its text."""
        options = Options(num_predict=max_tokens, temperature=temperature)
        return await _told(self._work.chat(prompt, model, system, options))

    async def draw(
        self,
        prompt: Prompt,
        ctx: Context,
        model: Model = None,
        width: Side = None,
        height: Side = None,
        steps: Steps = None,
        seed: Seed = None,
        negative_prompt: Annotated[str | None, Field(description="what it should not show")] = None,
        n: Count = 1,
    ) -> list[Any]:
        """Draw pictures from text, on this machine."""
        fields = _fields(prompt, width, height, steps, seed, n) | {"negative_prompt": negative_prompt}
        return _shown(await _told(self._work.draw(fields, model, [], _on_step(ctx))))

    async def edit(
        self,
        prompt: Annotated[str, Field(description="what to change, or what the picture should show")],
        pictures: Annotated[
            list[str],
            Field(
                description="data URIs or base64; if this server runs as a program of yours, absolute paths too"
            ),
        ],
        ctx: Context,
        model: Model = None,
        strength: Annotated[
            float | None, Field(description="start from the first picture and go this far from it, 0 to 1")
        ] = None,
        width: Side = None,
        height: Side = None,
        steps: Steps = None,
        seed: Seed = None,
        n: Count = 1,
    ) -> list[Any]:
        """Draw a picture from others: change them, or take things and styles from them."""
        fields = _fields(prompt, width, height, steps, seed, n) | {"strength": strength}
        return _shown(await _told(self._work.draw(fields, model, pictures, _on_step(ctx))))


def _fields(
    prompt: str, width: int | None, height: int | None, steps: int | None, seed: int | None, n: int
) -> dict[str, Any]:
    return {"prompt": prompt, "width": width, "height": height, "steps": steps, "seed": seed, "n": n}


def make_server(work: Work) -> Any:
    tools = Tools(work)
    server = MCPServer(
        "diptych", instructions=INSTRUCTIONS, version=metadata.version("diptych"), log_level="WARNING"
    )
    each: tuple[Callable[..., Any], ...] = (tools.models, tools.chat, tools.draw, tools.edit)
    for tool in each:
        server.add_tool(tool, structured_output=False)
    return server


async def _told(work: Awaitable[T]) -> T:
    """Errors reach the model, which can do something about them."""
    try:
        return await work
    except DiptychError as error:
        raise ToolError(error.message) from None


def _on_step(ctx: Any) -> OnStep:
    async def report(step: int, total: int) -> None:
        await ctx.report_progress(step, total)

    return report


def _shown(drawn: Drawn) -> list[Any]:
    return [*(Image(data=picture, format="png") for picture in drawn.pictures), str(drawn)]
