"""Everything that carries the parameters of a picture, with a field more in `ImageParameters`: run as a process of its own,
since classes are made of it when they are imported."""

import asyncio
import base64
from typing import ClassVar

import msgspec
import pytest
from msgspec.structs import replace

from tests.runner.tiling import add_field

add_field()

from pipelines.base import ImageRequest  # noqa: E402
from pipelines.fallback.calls import Call  # noqa: E402
from pipelines.packing import read_recipe  # noqa: E402
from pipelines.planning import Defaults, plan  # noqa: E402
from runner.api.openai.images import ImagesCall  # noqa: E402
from runner.api.page import parameters_document  # noqa: E402
from runner.cli.commands.draw import follow, options_of, request_of  # noqa: E402
from runner.cli.commands.recipe import render  # noqa: E402
from runner.cli.main import _parser  # noqa: E402
from runner.errors import BadRequest  # noqa: E402
from runner.protocol.image import ImageCompletionRequest, parse_image  # noqa: E402
from runner.protocol.text import encode  # noqa: E402
from tests.runner.fake_pipeline import FakePipeline, client_of  # noqa: E402


def body(*arguments: str) -> ImageCompletionRequest:
    """What `diptych draw` sends."""
    return request_of(options_of(_parser().parse_args(["draw", *arguments])), "png")


def drawn(request: ImageCompletionRequest, pipeline: FakePipeline) -> bytes:
    """The file that a runner answers with."""

    async def ask() -> bytes:
        async with client_of(pipeline) as client:
            answer = await client.post("/completion", content=encode(replace(request, stream=False)))
        return base64.b64decode(answer.json()["image"])

    return asyncio.run(ask())


class Diffusers:
    config: ClassVar[dict[str, object]] = {}

    def __call__(self, prompt: str, num_inference_steps: int = 2, tiling: bool = False) -> None: ...


# The command line, the wire, the pipeline's request, the recipe in the picture, and the picture drawn again from it.
assert b'"tiling":true' in encode(body("a boat", "--tiling"))
assert b"tiling" not in encode(body("a boat"))
pipeline = FakePipeline()
recipe = read_recipe(drawn(body("a boat", "--tiling"), pipeline))
assert pipeline.requests[0].tiling is recipe.tiling is True  # type: ignore[attr-defined]
assert "tiling  yes" in render(recipe)
again = follow(options_of(_parser().parse_args(["draw", "--from", "boat.png"])), recipe)
assert request_of(again, "png").tiling is True  # type: ignore[attr-defined]

# What is wrong with it is said of it.
with pytest.raises(BadRequest, match='tiling: "often" is not allowed'):
    parse_image({"prompt": "a boat", "options": {"tiling": "often"}})

# Families say whether they know it; diffusers' calls by what they take.
request = ImageRequest("a boat", 1, tiling=True)  # type: ignore[call-arg]
others = Defaults(steps=4, guidance=None, side=512, size_multiple=16)
assert plan(request, others).warnings == ("tiling has no effect on this model",)
assert plan(request, Defaults(4, None, 512, 16, supported_params=("tiling",))).warnings == ()
call = Call.of(Diffusers(), None)
assert call.arguments(request, call.plan(request))["tiling"] is True

# Other APIs.
given = {"model": "klein", "prompt": "a boat", "tiling": True}
assert ImagesCall(given, "image_generation", []).engine_request().tiling is True  # type: ignore[attr-defined]

# The page's form.
described = {one["name"]: one for one in msgspec.json.decode(parameters_document(gallery=True))["parameters"]}
assert described["tiling"] == {
    "name": "tiling", "type": "boolean", "label": "Tiling", "hint": "make the opposite edges fit together",
    "group": "more", "default": False, "least": None, "most": None,
}  # fmt: skip
