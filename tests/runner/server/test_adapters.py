"""Adapters over HTTP: a toy model behind a runner's app, and a folder of adapters."""

import asyncio
import base64
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from pipelines.denoise import DenoisingPipeline
from pipelines.loras import Lora
from pipelines.packing import read_recipe
from pipelines.settings import Settings
from runner.sources.adapters import AdapterSource
from tests.pipelines import toys
from tests.pipelines.adapter_files import FORMATS, KLEIN
from tests.pipelines.families import pipeline_class
from tests.runner.fake_pipeline import client_of
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    for name in ("klein, kohya", "klein, ai-toolkit", "z-image, musubi"):
        FORMATS[name].write(folder / f"{name.replace(', ', '-')}.safetensors")
    (folder / "broken.safetensors").write_bytes(b"not one")
    return folder


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> DenoisingPipeline:
    return pipeline_class(KLEIN).load(toys.write(KLEIN, tmp_path_factory.mktemp("klein")), Settings())


Ask = Callable[..., Awaitable[httpx2.Response]]


@pytest.fixture
def run(pipeline: DenoisingPipeline, folder: Path) -> Callable[[Callable[[Ask], Awaitable[None]]], None]:
    def run(test: Callable[[Ask], Awaitable[None]]) -> None:
        async def whole() -> None:
            async with client_of(pipeline, AdapterSource(str(folder))) as client:

                async def ask(**body: Any) -> httpx2.Response:
                    fields = {
                        "prompt": "a boat",
                        "seed": 3,
                        "width": 32,
                        "height": 32,
                        "steps": 1,
                        "stream": False,
                    }
                    return await client.post("/completion", json={**fields, **body})

                await test(ask)

        asyncio.run(asyncio.wait_for(whole(), PATIENCE))

    return run


def pixels(answer: httpx2.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array(Image.open(io.BytesIO(base64.b64decode(answer.json()["image"]))))


def test_a_request_names_adapters_and_the_recipe_repeats_it(run: Any, folder: Path) -> None:
    async def test(ask: Ask) -> None:
        plain = await ask()
        adapted = await ask(loras=[{"name": "klein-kohya", "scale": 0.8}, {"name": "klein-ai-toolkit"}])
        assert (pixels(plain) != pixels(adapted)).mean() > 0.3
        assert (pixels(await ask()) == pixels(plain)).all()
        recipe = read_recipe(base64.b64decode(adapted.json()["image"]))
        source = AdapterSource(str(folder))
        hashes = [source.hash(folder / f"{name}.safetensors") for name in ("klein-kohya", "klein-ai-toolkit")]
        assert recipe.loras == (Lora("klein-kohya", 0.8, hashes[0]), Lora("klein-ai-toolkit", 1.0, hashes[1]))
        loras = [{"name": lora.name, "scale": lora.scale, "hash": lora.hash} for lora in recipe.loras or ()]
        again = await ask(loras=loras)
        assert (pixels(again) == pixels(adapted)).all()
        assert "warnings" not in again.json()

    run(test)


def test_tags_in_the_prompt_are_read_where_asked_for(run: Any) -> None:
    async def test(ask: Ask) -> None:
        named = await ask(loras=[{"name": "klein-kohya", "scale": 0.5}])
        tagged = await ask(prompt="a boat <lora:klein-kohya:0.5>", lora_tags=True)
        assert (pixels(named) == pixels(tagged)).all()
        recipe = read_recipe(base64.b64decode(tagged.json()["image"]))
        assert (recipe.prompt, recipe.lora_tags) == ("a boat", False)
        literal = await ask(prompt="a boat <lora:klein-kohya:0.5>")
        assert read_recipe(base64.b64decode(literal.json()["image"])).loras is None

    run(test)


def test_another_file_of_the_same_name_is_a_warning(run: Any) -> None:
    async def test(ask: Ask) -> None:
        answer = await ask(loras=[{"name": "klein-kohya", "hash": "0" * 12}])
        assert (
            "klein-kohya is another file than the one that the picture was made with"
            in answer.json()["warnings"][0]
        )

    run(test)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (
            {"loras": [{"name": "klein-koyha"}]},
            404,
            "there is no adapter 'klein-koyha'; did you mean klein-kohya",
        ),
        ({"loras": [{"name": "/etc/passwd"}]}, 404, "there is no adapter '/etc/passwd'"),
        ({"loras": [{"name": "../loras0/klein-kohya.safetensors"}]}, 404, "there is no adapter"),
        (
            {"loras": [{"name": "z-image-musubi"}]},
            400,
            "z-image-musubi does not belong to this model (FLUX.2 klein)",
        ),
        (
            {"loras": [{"name": "broken"}]},
            400,
            "broken.safetensors is not a safetensors file: it has 7 bytes",
        ),
        (
            {"loras": [{"name": "klein-kohya", "scale": 1000}]},
            400,
            "loras[0].scale: 1000 is not allowed; a number of at most 100",
        ),
        ({"loras": [{"scale": 1}]}, 400, "name"),
        ({"loras": "klein-kohya"}, 400, "loras"),
        ({"loras": [{"name": "klein-kohya"}] * 17}, 400, "loras"),
        (
            {"prompt": "a <lora:klein-kohya:500>", "lora_tags": True},
            400,
            "prompt: <lora:…>: 500 is out of range",
        ),
    ],
)
def test_what_is_wrong_with_an_adapter_is_an_error_with_a_status(
    body: dict[str, Any], status: int, message: str, run: Any
) -> None:
    async def test(ask: Ask) -> None:
        for stream in (False, True):
            answer = await ask(**body, stream=stream)
            assert (answer.status_code, message in answer.json()["error"]) == (status, True), answer.text
        assert pixels(await ask()).any()

    run(test)
