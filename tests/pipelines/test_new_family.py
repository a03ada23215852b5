"""A family of two files and a line: another latent codec, an encoder with a mask, and the denoising loop as it is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from pipelines import PIPELINES, Family, pipeline_class
from pipelines.base import ImageRequest
from pipelines.denoise import DenoisingPipeline
from pipelines.prompt_embeds import PromptEmbeds
from pipelines.random_model import write_random
from pipelines.settings import Settings
from pipelines.variants import Variant
from tests.pipelines.pictures import drawn, painted, report, steps
from tests.pipelines.toys import DYNAMIC, REFERENCES, local

THE_LINE = Family(
    "tests.pipelines.toy_pipeline:ToyPipeline", lambda model: Variant(3, 2.0, 32, distilled=False)
)
REQUEST = ImageRequest("a red circle", 3, "blurry, dull, out of focus", width=40, height=24)

Load = Callable[..., DenoisingPipeline]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.setitem(PIPELINES, "ToyPipeline", THE_LINE)
    shutil.copytree(REFERENCES / "tokenizers" / "qwen", tmp_path / "tokenizer")
    for name, values in (("transformer/config", {"width": 24}), ("scheduler/scheduler_config", DYNAMIC)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    write_random(tmp_path, "ToyPipeline", "float32", None)
    return lambda **settings: pipeline_class("ToyPipeline").load(local(tmp_path), Settings(**settings))


@pytest.mark.parametrize("memory", ["resident", "staged"])
def test_it_draws_by_the_defaults_of_its_line(load: Load, memory: str) -> None:
    pipeline = load(memory=memory)
    events = list(pipeline.generate(REQUEST))
    (picture,) = drawn(events)
    assert picture.shape == (24, 40, 3)
    assert picture.std() > 5
    assert [step.index for step in steps(events)] == [0, 1, 2, 3]
    assert (report(events).plan.guidance, pipeline.context) == (2.0, 32)
    assert (drawn(pipeline.generate(REQUEST))[0] == picture).all()


def test_it_starts_from_a_picture_and_shows_previews_by_its_own_codec(load: Load) -> None:
    start = painted(40, 24)
    request = ImageRequest("a red circle", 3, images=(start,), strength=0.7, steps=6, previews=2)
    events = list(load().generate(request))
    assert drawn(events)[0].shape == start.shape
    previews = [step.preview for step in steps(events) if step.preview is not None]
    assert [preview.shape for preview in previews] == [(24, 40, 3)] * 2


def test_a_mask_keeps_the_padding_of_the_shorter_prompt_out_of_the_picture(load: Load) -> None:
    """Guidance puts two prompts of different lengths into one batch: each moves the latents as it does alone."""
    pipeline = load()
    prompts = pipeline.encode_prompts([REQUEST.prompt, REQUEST.negative_prompt or ""])
    lengths = [embeds.mask.shape[1] for embeds in prompts if embeds.mask is not None]
    assert lengths[0] != lengths[1]
    run = pipeline.denoise_plan(REQUEST, pipeline.plan(REQUEST))
    tokens = mx.random.normal((1, run.rows * run.columns, pipeline.features), key=mx.random.key(1))
    moved = [
        pipeline.transformer.step(
            mx.concatenate([tokens] * len(batch)),
            pipeline.prepare(run, batch, []),
            pipeline.modulation(run, batch).at(0),
        )
        for batch in (prompts, prompts[:1], prompts[1:])
    ]
    together, alone = moved[0], mx.concatenate(moved[1:])
    assert np.allclose(together, alone, atol=1e-5)
    assert not np.allclose(together[:1], together[1:], atol=1e-2)


def test_a_cached_prompt_counts_its_mask(load: Load) -> None:
    pipeline = load()
    (embeds,) = pipeline.encode_prompts(["a red circle"])
    assert isinstance(embeds, PromptEmbeds)
    assert embeds.mask is not None
    assert pipeline.prompt_cache.nbytes == embeds.states[0].nbytes + embeds.mask.nbytes
