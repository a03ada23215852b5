"""Pictures through the real process: a toy FLUX.2 klein, drawn over HTTP."""

import base64
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.packing import read_recipe
from tests.pipelines import toys
from tests.runner.fake_pipeline import opened, picture_base64
from tests.runner.live import ROOT, Live, events
from tests.waiting import PATIENCE, wait_until

Event = dict[str, Any]
SMALL = {"width": 64, "height": 48, "steps": 2}
LONG = {"width": 256, "height": 256, "steps": 1000}  # minutes, were it not stopped


@pytest.fixture(scope="module")
def klein(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.write("klein", tmp_path_factory.mktemp("klein") / "toy").folder


@pytest.fixture(scope="module")
def live(klein: Path) -> Iterator[Live]:
    with Live(klein) as runner:
        yield runner


def draw(live: Live, prompt: str = "a boat", **fields: Any) -> list[Event]:
    body = {"prompt": prompt, **SMALL, **fields}
    return events(live.http.post("/completion", json=body))


def test_a_picture_arrives_step_by_step_with_its_recipe(live: Live) -> None:
    first, one, two, done = draw(live, seed=11, previews=1)
    assert first == {"total": 2}
    assert (one["step"], two) == (1, {"step": 2, "total": 2})
    assert max(opened(one["preview"]).size) <= 256
    assert opened(done["image"]).size == (64, 48)
    assert done["peak_memory"] > 0
    recipe = read_recipe(base64.b64decode(done["image"]))
    assert (recipe.prompt, recipe.seed, recipe.steps) == ("a boat", 11, 2)
    assert recipe.model == Path(live_folder(live)).name


def live_folder(live: Live) -> str:
    return str(live.status()["model"])


def test_repeating_the_recipe_gives_the_identical_picture(live: Live) -> None:
    done = draw(live, prompt="größer 海 🫖", width=272, height=144, steps=1)[-1]
    recipe = read_recipe(base64.b64decode(done["image"]))
    again = draw(
        live,
        prompt=recipe.prompt,
        width=recipe.width,
        height=recipe.height,
        steps=recipe.steps,
        seed=recipe.seed,
    )[-1]
    assert again["image"] == done["image"]
    assert draw(live, prompt=recipe.prompt, width=272, height=144, steps=1)[-1]["image"] != done["image"]


def test_several_pictures_are_different_and_repeat(live: Live) -> None:
    stream = draw(live, seed=5, n=2)
    (one, two), done = [event for event in stream if "index" in event], stream[-1]
    assert (one["index"], two["index"]) == (0, 1)
    assert [event["step"] for event in stream if "step" in event] == [1, 2, 3, 4], "steps of both"
    assert one["image"] != two["image"]
    assert done["seed"] == 5
    again = [event["image"] for event in draw(live, seed=5, n=2) if "index" in event]
    assert again == [one["image"], two["image"]]
    alone = draw(live, seed=5)[-1]["image"]
    assert np.array_equal(np.asarray(opened(alone)), np.asarray(opened(one["image"])))


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_other_formats(live: Live, format: str) -> None:
    done = draw(live, format=format)[-1]
    assert opened(done["image"]).format == format.upper()
    assert read_recipe(base64.b64decode(done["image"])).prompt == "a boat"


def test_a_picture_can_be_edited_and_started_from(live: Live) -> None:
    plain = draw(live, seed=3)[-1]["image"]
    edited = draw(live, seed=3, images=[picture_base64(96, 80)])[-1]["image"]
    started = draw(live, seed=3, steps=4, images=[picture_base64(96, 80)], strength=0.5)
    assert plain != edited
    assert started[0] == {"total": 2}, "half of its steps"
    recipe = read_recipe(base64.b64decode(started[-1]["image"]))
    assert (recipe.steps, recipe.strength) == (4, 0.5)


def test_two_clients_queue_and_each_get_their_own(live: Live) -> None:
    alone = [draw(live, seed=seed)[-1]["image"] for seed in (21, 22, 23)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda seed: draw(live, seed=seed)[-1]["image"], (21, 22, 23)))
    assert together == alone


def test_a_request_that_cannot_be_drawn_is_a_400_that_says_why(live: Live) -> None:
    for fields, word in (
        ({"width": 8}, "width"),
        ({"width": 4096, "height": 4096}, "megapixels"),
        ({"images": ["nonsense"]}, "images[0]"),
        ({"images": [picture_base64(20, 20)]}, "64 pixels"),
        ({"seed": 2**70}, "seed"),
    ):
        response = live.http.post("/completion", json={"prompt": "x", **fields})
        assert response.status_code == 400, fields
        assert word in response.json()["error"]


def test_a_client_that_leaves_and_a_cancelled_one_give_their_place_and_memory_back(live: Live) -> None:
    draw(live)
    before = live.wait_until_idle()["Memory"]
    connection = live.begin("unwanted", **LONG)
    wait_until(lambda: live.status()["active"] == 1)
    connection.close()
    live.wait_until_idle()
    with ThreadPoolExecutor(1) as pool:
        body = {"prompt": "unwanted", **LONG}
        answer = pool.submit(
            live.http.post,
            "/completion",
            json=body,
            headers={"X-Request-Id": "unwanted", "Connection": "close"},
        )
        wait_until(lambda: live.http.post("/cancel", json={"id": "unwanted"}).json()["cancelled"])
        # Cancelled before its first event it has a status of its own, else a last line.
        assert json.loads(answer.result().text.splitlines()[-1])["error"] == "the request was cancelled"
    after = live.wait_until_idle()["Memory"]
    assert after <= before + 2**20


def test_status_and_the_text_endpoints_know_that_it_draws(live: Live) -> None:
    status = live.status()
    assert (status["mode"], status["Status"], status["ContextLength"]) == ("image", 0, 512)
    response = live.http.post("/tokenize", json={"content": "x"})
    assert response.status_code == 400
    assert "makes pictures" in response.json()["error"]


def test_asked_to_stop_it_finishes_the_picture_and_exits_with_0(klein: Path) -> None:
    with Live(klein) as runner, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(draw, runner, steps=5)
        wait_until(lambda: runner.status()["active"] == 1 or answer.done())
        runner.ask_to_stop(signal.SIGTERM)
        assert answer.result()[-1]["image"]
        assert runner.process.wait(PATIENCE) == 0


@pytest.mark.slow
def test_asked_to_stop_it_does_not_wait_for_a_long_picture(klein: Path) -> None:
    with Live(klein) as runner, ThreadPoolExecutor(1) as pool:
        body = {"prompt": "a boat", **LONG}
        answer = pool.submit(runner.http.post, "/completion", json=body)
        wait_until(lambda: runner.status()["active"] == 1)
        runner.ask_to_stop(signal.SIGTERM)
        last = json.loads(answer.result().text.splitlines()[-1])
        assert last == {"error": "the request was cancelled", "done": True}
        assert runner.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("family", ["klein base", "z-image-turbo", "z-image", "flux schnell", "flux dev"])
def test_every_family_draws_and_repeats_itself(family: str, tmp_path: Path) -> None:
    with Live(toys.write(family, tmp_path / "toy").folder) as runner:
        fields = {"guidance": 3.0, "negative_prompt": "fog", "seed": 2, "previews": 1}
        first = draw(runner, **fields)
        assert first[0] == {"total": 2}
        assert opened(first[1]["preview"]).size
        assert opened(first[-1]["image"]).size == (64, 48)
        assert draw(runner, **fields)[-1]["image"] == first[-1]["image"]
        started = draw(runner, images=[picture_base64(96, 80)], strength=0.6, steps=5, seed=2)
        assert started[0] == {"total": 3}
        assert started[-1]["image"] != first[-1]["image"]


def test_quantized_and_staged_it_draws_the_same_picture_but_for_what_bits_cost(klein: Path) -> None:
    with Live(klein, "--memory", "staged") as runner:
        staged = opened(draw(runner, seed=9)[-1]["image"])
        assert "memory: staged, as requested" in runner.log
        assert opened(draw(runner, "another", seed=9)[-1]["image"]) != staged
    with Live(klein, "--memory", "100MB", "--quantize", "8") as runner:
        draw(runner, seed=9)
        assert "memory: staged: even in turn" in runner.log
    with Live(klein) as runner:
        resident = opened(draw(runner, seed=9)[-1]["image"])
    difference = np.abs(np.asarray(staged).astype(int) - np.asarray(resident).astype(int))
    assert difference.max() <= 1


def test_drawing_imports_neither_transformers_nor_mlx_lm(klein: Path) -> None:
    code = f"""
import sys
from runner.server import main
from pipelines.base import ImageRequest, Picture
process = object.__new__(main._Process)
process._settings = main.RunnerSettings({str(klein)!r}, 0)
worker = process._load(lambda done: None)
drawn = list(worker.pipeline.generate(ImageRequest("a boat", seed=1, width=32, height=32)))
assert any(isinstance(event, Picture) for event in drawn)
print(sorted({{name.split(".")[0] for name in sys.modules}} & {{"transformers", "mlx_lm", "torch", "diffusers"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_broken_picture_model_ends_with_a_line_that_says_what_is_wrong(tmp_path: Path) -> None:
    folder = toys.write("klein", tmp_path / "toy").folder
    config = json.loads((folder / "transformer" / "config.json").read_text())
    (folder / "transformer" / "config.json").write_text(json.dumps(config | {"num_layers": 2}))
    command = [sys.executable, "-m", "runner", "--model", str(folder), "--port", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert "transformer_blocks.1" in done.stderr.splitlines()[-1]


def test_options_of_one_kind_of_model_are_refused_for_the_other() -> None:
    from tests.toys import toy_text

    command = [sys.executable, "-m", "runner", "--model", str(toy_text()), "--port", "0", "--quantize", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert "--quantize is for picture models" in done.stderr.splitlines()[-1]
