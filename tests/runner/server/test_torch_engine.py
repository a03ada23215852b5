"""Diffusers' pipelines through the real process: a toy of Stable Diffusion XL, and FLUX.2 klein by the other engine."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from pipelines.base import ImageRequest
from runner.inspect.detect import detect
from tests.pipelines.fallback.checkpoints import toy
from tests.pipelines.families import pipeline_class
from tests.pipelines.pictures import assert_same, drawn
from tests.runner.fake_pipeline import opened, picture_base64
from tests.runner.live import ROOT, Live, events
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.reference, pytest.mark.slow]

SMALL = {"prompt": "a red circle", "width": 48, "height": 32, "steps": 2}


@pytest.fixture(scope="module")
def sdxl() -> Iterator[Live]:
    """With no word about engines: there is but one for this model."""
    with Live(toy("sdxl").folder) as runner:
        yield runner


def draw(live: Live, **fields: Any) -> list[dict[str, Any]]:
    return events(live.http.post("/completion", json={**SMALL, **fields}))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runner", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)


def test_a_picture_arrives_as_by_our_own_pipelines(sdxl: Live) -> None:
    first, one, two, done = draw(sdxl, seed=11, previews=1, negative_prompt="blue", guidance=3)
    assert first == {"total": 2}
    assert (one["step"], two) == (1, {"step": 2, "total": 2})
    assert opened(one["preview"]).size == (48, 32)
    assert (done["seed"], done["width"], done["height"], done["total"]) == (11, 48, 32, 2)
    picture = opened(done["image"])
    assert picture.size == (48, 32)
    assert "Seed: 11" in picture.info["parameters"]
    assert done["peak_memory"] > 0
    assert draw(sdxl, seed=11, negative_prompt="blue", guidance=3)[-1]["image"] == done["image"]


def test_several_pictures_and_a_seed_that_is_told(sdxl: Live) -> None:
    stream = draw(sdxl, n=2, format="webp")
    pictures = [event for event in stream if "index" in event]
    assert [event["index"] for event in pictures] == [0, 1]
    again = draw(sdxl, n=2, format="webp", seed=stream[-1]["seed"])
    assert [event["image"] for event in again if "index" in event] == [event["image"] for event in pictures]


def test_it_can_start_from_a_picture(sdxl: Live) -> None:
    body = {"prompt": "a boat", "steps": 4, "images": [picture_base64(40, 32)], "strength": 0.5}
    stream = events(sdxl.http.post("/completion", json=body))
    assert stream[0] == {"total": 2}
    assert opened(stream[-1]["image"]).size == (40, 32)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"images": ["AAAA"]}, "images[0]"),
        ({"images": [picture_base64()] * 2}, "images: 2 are too many"),
        ({"strength": 0.5}, "strength"),
        ({"width": 5000}, "width"),
        ({"steps": -1}, "steps"),
        ({"steps": "four"}, "steps"),
        ({"prompt": ""}, "prompt"),
        ({"seed": 2**70}, "seed"),
    ],
)
def test_what_cannot_be_drawn_is_a_400_that_names_it(sdxl: Live, fields: dict[str, Any], said: str) -> None:
    response = sdxl.http.post("/completion", json={**SMALL, **fields})
    assert response.status_code == 400
    assert said in response.json()["error"]


def test_a_client_that_leaves_stops_its_picture(sdxl: Live) -> None:
    sdxl.begin("a long one", width=128, height=128, steps=1000).close()
    sdxl.wait_until_idle(60)
    assert draw(sdxl)[-1]["done"]


def test_a_picture_is_cancelled_by_its_id(sdxl: Live) -> None:
    body = {**SMALL, "steps": 1000}
    with sdxl.http.stream("POST", "/completion", json=body, headers={"X-Request-Id": "long"}) as response:
        lines = response.iter_lines()
        assert json.loads(next(lines)) == {"total": 1000}
        assert json.loads(next(lines))["step"] == 1
        assert sdxl.http.post("/cancel", json={"id": "long"}).json() == {"cancelled": True}
        assert "cancelled" in json.loads(list(lines)[-1])["error"]
    sdxl.wait_until_idle(60)


def test_the_status_is_that_of_a_picture_model(sdxl: Live) -> None:
    status = sdxl.status()
    assert (status["mode"], status["ContextLength"], status["Status"]) == ("image", 77, 0)
    assert status["Memory"] > 0
    assert sdxl.http.post("/tokenize", json={"content": "x"}).status_code == 400
    assert "computing with diffusers on PyTorch" in sdxl.log
    assert "a red circle" not in sdxl.log


def test_a_model_of_ours_gives_the_same_picture_by_torch() -> None:
    ours = pipeline_class("klein").load(toy("klein"))
    request = ImageRequest("a red circle", seed=9, width=64, height=48, previews=0)
    with Live(toy("klein").folder, "--engine", "torch") as runner:
        body = {"prompt": "a red circle", "seed": 9, "width": 64, "height": 48}
        stream = events(runner.http.post("/completion", json=body))
        refused = runner.http.post("/completion", json={**body, "negative_prompt": "blue"})
        imported = f"/proc/{runner.process.pid}/maps"
        mapped = Path(imported).read_text() if Path(imported).exists() else ""
        with runner.begin("a long one", width=128, height=128, steps=1000):
            while not runner.status()["active"]:
                time.sleep(0.02)
            runner.ask_to_stop()
            assert runner.process.wait(PATIENCE) == 0
    assert [event.get("step") for event in stream] == [None, 1, 2, 3, 4, None]
    assert_same(np.asarray(opened(stream[-1]["image"])), drawn(ours.generate(request))[0])
    assert refused.status_code == 400
    assert "Flux2KleinPipeline does not take negative_prompt" in refused.json()["error"]
    assert "libmlx" not in mapped


def test_detect_says_which_engine_would_run_it() -> None:
    assert detect(str(toy("sdxl").folder)).engine == "torch"
    assert detect(str(toy("klein").folder)).engine == "mlx"
    done = run("detect", str(toy("sdxl").folder))
    assert done.returncode == 0
    assert "torch, by diffusers" in done.stdout


@pytest.mark.parametrize(
    ("option", "value"), [("--quantize", "4"), ("--memory", "staged"), ("--engine", "mlx")]
)
def test_options_that_are_for_mlx_are_refused(option: str, value: str) -> None:
    done = run("runner", "--model", str(toy("sdxl").folder), "--port", "0", option, value)
    assert done.returncode == 1
    assert option in done.stderr.splitlines()[-1] or "--engine torch" in done.stderr.splitlines()[-1]


def test_broken_weights_end_the_process_with_a_line_that_names_them(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(toy("sdxl").folder, tmp_path / "toy"))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    done = run("runner", "--model", str(folder), "--port", "0")
    assert done.returncode == 1
    assert "unet/diffusion_pytorch_model.safetensors is cut short" in done.stderr.splitlines()[-1]


def test_pickles_are_refused_before_torch_is_imported(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(toy("sdxl").folder, tmp_path / "toy"))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(folder / "unet" / "diffusion_pytorch_model.bin")
    done = run("runner", "--model", str(folder), "--port", "0")
    assert done.returncode == 1
    assert "never read" in done.stderr.splitlines()[-1]
    assert not detect(str(folder)).supported
