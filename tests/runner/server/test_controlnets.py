"""ControlNets over HTTP: a toy model behind a runner's app, and a folder of them."""

import asyncio
import base64
import io
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from pipelines.controls import Control
from pipelines.denoise import DenoisingPipeline
from pipelines.packing import read_recipe
from runner.cli.commands.recipe import render
from runner.sources.controlnets import ControlNetSource
from tests.pipelines import control_toys, toys
from tests.pipelines.families import pipeline_class
from tests.runner.fake_pipeline import client_of, picture_base64
from tests.waiting import PATIENCE

TOY, NET = "z-image-turbo", "z-image-turbo"
PICTURE = picture_base64(48, 40)
Ask = Callable[..., Awaitable[httpx2.Response]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("controlnets")
    control_toys.write(NET, folder / "edges")
    control_toys.write("flux dev", folder / "other" / "flux")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text('{"_class_name": "ZImageTransformer2DModel"}')
    (folder / "empty").mkdir()
    (folder / "empty" / "config.json").write_text((folder / "edges" / "config.json").read_text())
    (folder / "pipe").mkdir()
    (folder / "pipe" / "config.json").write_text((folder / "edges" / "config.json").read_text())
    os.mkfifo(folder / "pipe" / "diffusion_pytorch_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> DenoisingPipeline:
    return pipeline_class(TOY).load(toys.write(TOY, tmp_path_factory.mktemp("toy")))


@pytest.fixture
def run(pipeline: DenoisingPipeline, folder: Path) -> Callable[[Callable[[Ask], Awaitable[None]]], None]:
    def run(test: Callable[[Ask], Awaitable[None]]) -> None:
        async def whole() -> None:
            async with client_of(pipeline, controlnets=ControlNetSource(str(folder))) as client:

                async def ask(**body: Any) -> httpx2.Response:
                    fields = {"prompt": "a boat", "seed": 3, "steps": 2, "stream": False}
                    return await client.post("/completion", json={**fields, **body})

                await test(ask)

        asyncio.run(asyncio.wait_for(whole(), PATIENCE))

    return run


def pixels(answer: httpx2.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array(Image.open(io.BytesIO(base64.b64decode(answer.json()["image"]))))


def test_a_request_names_a_controlnet_and_the_recipe_says_which(run: Any) -> None:
    async def test(ask: Ask) -> None:
        plain = await ask(width=48, height=32)
        control = {"name": "edges", "image": PICTURE, "scale": 0.8, "end": 0.5}
        followed = await ask(controls=[control])
        assert pixels(followed).shape == pixels(plain).shape == (32, 48, 3)
        assert (pixels(plain) != pixels(followed)).mean() > 0.3
        recipe = read_recipe(base64.b64decode(followed.json()["image"]))
        assert recipe.controls is not None
        (stored,) = recipe.controls
        assert stored == Control("edges", scale=0.8, end=0.5, hash=stored.hash)
        assert len(stored.hash) == 16
        assert f"edges:0.8, 0 to 0.5 of the steps ({stored.hash})" in render(recipe)
        other = await ask(controls=[control | {"hash": "0" * 16}])
        assert "edges has other weights than the one" in other.json()["warnings"][0]
        assert (pixels(await ask(width=48, height=32)) == pixels(plain)).all()

    run(test)


@pytest.mark.parametrize(
    ("control", "status", "message"),
    [
        ({"name": "edges", "image": ""}, 400, "controls[0].image: the picture that it follows is missing"),
        ({"name": "edges", "image": "AAAA"}, 400, "controls[0].image: the picture is"),
        ({"name": "edges", "scale": -1}, 400, "scale"),
        ({"name": "edges", "start": 0.6, "end": 0.5}, 400, "controls[0]: start is 0.6"),
        ({"name": "edges", "mode": "canny"}, 400, "mode"),
        ({"name": "edgy"}, 404, "controls: there is no ControlNet 'edgy'; there are"),
        ({"name": "/etc"}, 404, "there is no ControlNet '/etc'"),
        ({"name": "../edges"}, 404, "there is no ControlNet '../edges'"),
        ({"name": "other/flux"}, 400, "it is a 'FluxControlNetModel'; ZImageControlNetModel is needed"),
        ({"name": "model"}, 400, "is no ControlNet in the layout of diffusers"),
        ({"name": "empty"}, 400, "has no weights"),
        ({"name": "pipe"}, 400, "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_controlnet_is_said(
    run: Any, control: dict[str, Any], status: int, message: str
) -> None:
    async def test(ask: Ask) -> None:
        answer = await ask(controls=[{"image": PICTURE} | control])
        assert (answer.status_code, message in answer.text) == (status, True), answer.text

    run(test)


def test_a_damaged_picture_to_follow_is_refused(run: Any) -> None:
    async def test(ask: Ask) -> None:
        cut = base64.b64encode(base64.b64decode(PICTURE)[:80]).decode()
        answer = await ask(controls=[{"name": "edges", "image": cut}])
        assert answer.status_code == 400
        assert "controls[0].image: the picture is damaged" in answer.text

    run(test)
