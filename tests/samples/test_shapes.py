"""The sample model: complete, small, and it draws and edits what is asked for."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines.base import ImageRequest, Picture, Pixels
from runner.inspect.mode import detect_model_mode
from runner.sources import ModelMode
from samples.training.classify import classify, judge
from samples.training.drawing import draw
from samples.training.evaluate import measure, through_diptych
from samples.training.running import load
from samples.training.scenes import Scene, Shape, background_of, settle
from tests import ROOT

SHAPES = ROOT / "samples" / "shapes"
MIDDLE = (0.5,) * 16
# Among them the first that a newcomer tries.
SCENES = {
    "a red circle above a blue square": Scene(
        (Shape("circle", "red"), Shape("square", "blue")), None, "above"
    ),
    "a large orange star at the top right on a black background": Scene(
        (Shape("star", "orange", "large"),), "black", "top right"
    ),
    "a purple ring left of a green triangle on yellow": Scene(
        (Shape("ring", "purple"), Shape("triangle", "green")), "yellow", "left"
    ),
}


@pytest.fixture(scope="module")
def pipeline() -> object:
    return load(SHAPES)


def drawn(pipeline: object, prompt: str, seed: int = 1, images: tuple[Pixels, ...] = ()) -> Pixels:
    events = pipeline.generate(ImageRequest(prompt, seed, images=images))
    return next(event.pixels for event in events if isinstance(event, Picture))


def test_it_is_complete_and_small() -> None:
    assert detect_model_mode(str(SHAPES))[:2] == (ModelMode.IMAGE, "Flux2KleinPipeline")
    assert detect_model_mode(str(SHAPES / "text_encoder")).mode is ModelMode.TEXT
    index = json.loads((SHAPES / "model_index.json").read_text())
    assert index["is_distilled"] is True
    for part in ("scheduler", "text_encoder", "tokenizer", "transformer", "vae"):
        assert part in index
        assert any((SHAPES / part).iterdir())
    assert sum(file.stat().st_size for file in SHAPES.rglob("*") if file.is_file()) < 24_000_000


@pytest.mark.parametrize("prompt", SCENES)
def test_it_draws_what_is_asked_for(pipeline: object, prompt: str) -> None:
    scene = SCENES[prompt]
    picture = drawn(pipeline, prompt)
    assert picture.shape == (128, 128, 3)
    assert judge(picture, scene, background_of(scene)).right, classify(picture)


def test_another_seed_is_another_picture_of_the_same(pipeline: object) -> None:
    scene = Scene((Shape("square", "blue"),))
    first, second = (drawn(pipeline, "a blue square", seed) for seed in (3, 4))
    assert (first != second).any()
    for picture in (first, second):
        assert judge(picture, scene, "white").right


def test_it_edits_the_picture_that_it_is_given(pipeline: object) -> None:
    before = draw(settle(Scene((Shape("circle", "red"),), "white", "left"), MIDDLE))
    after = classify(drawn(pipeline, "make the circle green", images=(before,)))
    assert [(shape.kind, shape.colour) for shape in after.shapes] == [("circle", "green")]
    assert abs(after.shapes[0].x - classify(before).shapes[0].x) < 4
    assert after.background == "white"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_is_right_about_most_of_what_it_has_never_seen() -> None:
    report, _, _ = measure(through_diptych(SHAPES, None), 40, 10)
    assert report["background"] >= 0.95
    assert report["colour"] >= 0.9
    assert report["shape"] >= 0.85
    assert report["place of two"] >= 0.8
    assert report["edits"]["all"] >= 0.7


@pytest.mark.reference
def test_the_reference_draws_the_same_picture(pipeline: object) -> None:
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    pipe = diffusers.Flux2KleinPipeline.from_pretrained(SHAPES, torch_dtype=torch.float32)
    prompt = "a red circle above a blue square"
    theirs = pipe(
        prompt=prompt, width=128, height=128, num_inference_steps=4, output_type="np",
        generator=torch.Generator("cpu").manual_seed(7), text_encoder_out_layers=(2, 4, 6),
    ).images[0]  # fmt: skip
    ours = drawn(pipeline, prompt, 7).astype(int)
    away = np.abs(ours - np.round(theirs * 255).astype(int))
    assert (away <= 1).mean() >= 0.999
    assert 20 * np.log10(255 / max(np.sqrt((away**2).mean()), 1e-9)) > 45


@pytest.mark.slow
@pytest.mark.reference
def test_its_recipe_runs_on_a_processor_and_writes_a_model_of_the_same_kind(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    script = [sys.executable, str(ROOT / "samples" / "training" / "train.py"), str(tmp_path / "made")]
    command = [*script, "--steps", "2", "--small", "--examples", "30"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = load(tmp_path / "made")
    assert drawn(made, "a red circle").shape == (128, 128, 3)
    assert json.loads((tmp_path / "made" / "curves" / "transformer.json").read_text())["steps"] == 2
