"""The walk itself: what it yields and when, what it keeps, and what it leaves behind."""

import mlx.core as mx
import numpy as np
import pytest

from models.vae.strips import Strips
from pipelines.base import ImageRequest, Picture, Report, Step
from pipelines.settings import Settings
from tests.pipelines.families import pipeline_class
from tests.pipelines.pictures import drawn, report, steps

FAMILIES = ["klein base", "z-image", "flux dev", "qwen-image"]
REQUEST = ImageRequest("a red circle", 3, "blurry", width=48, height=32, steps=4, guidance=2.0)


def load(toy, name, **settings):
    return pipeline_class(name).load(toy(name), Settings(**settings))


@pytest.mark.parametrize("name", FAMILIES)
def test_steps_come_in_order_then_the_pictures_then_the_report(toy, name):
    request = ImageRequest("a red circle", 3, width=32, height=32, steps=2, n=2)
    events = list(load(toy, name).generate(request))
    assert [type(event) for event in events] == [Step, Step, Step, Picture, Step, Step, Picture, Report]
    assert [(step.index, step.total) for step in steps(events)] == [(index, 4) for index in range(5)]
    assert [event.index for event in events if isinstance(event, Picture)] == [0, 1]
    done = report(events)
    assert min(done.encode_seconds, done.denoise_seconds, done.decode_seconds, done.peak_bytes) > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_warming_up_runs_every_part_once_and_leaves_nothing_but_what_it_read(toy, name):
    pipeline, done = load(toy, name), []
    pipeline.warm(done.append)
    assert done == sorted(done)
    assert done[-1] == 1
    held = mx.get_active_memory()
    pipeline.warm()
    assert mx.get_active_memory() == held
    assert drawn(pipeline.generate(REQUEST))


def test_a_staged_model_is_not_warmed_up(toy):
    pipeline = load(toy, "klein", memory="staged")
    pipeline.warm(lambda done: pytest.fail("something was computed"))
    assert not pipeline.transformer.held


def test_nothing_is_read_before_the_first_event(toy, monkeypatch):
    pipeline = load(toy, "klein")
    monkeypatch.setattr(pipeline, "encode_prompt", lambda prompt: pytest.fail("the prompt was encoded"))
    assert next(pipeline.generate(REQUEST)) == Step(0, 4)


def test_a_step_is_under_way_when_the_one_before_it_is_told(toy, monkeypatch):
    pipeline = load(toy, "klein")
    begun, step = [], pipeline._step
    monkeypatch.setattr(pipeline, "_step", lambda *args: begun.append(args[-1] + 1) or step(*args))
    reports = [
        (event.index, begun[-1]) for event in pipeline.generate(REQUEST) if isinstance(event, Step) and begun
    ]
    assert reports == [(1, 2), (2, 3), (3, 4), (4, 4)]


def test_noise_is_drawn_before_the_prompt_is_waited_for(toy, monkeypatch):
    pipeline = load(toy, "klein")
    done, noise, wait = [], pipeline.draw_noise, mx.eval
    monkeypatch.setattr(pipeline, "draw_noise", lambda *args: done.append("noise") or noise(*args))
    monkeypatch.setattr(mx, "eval", lambda *args: done.append("wait") or wait(*args))
    list(pipeline.generate(REQUEST))
    assert done[:2] == ["noise", "wait"]


@pytest.mark.parametrize("name", ["klein", "z-image-turbo", "flux schnell"])
def test_previews_come_evenly_are_small_and_grow_like_the_picture(toy, name):
    request = ImageRequest("a red circle", 3, width=320, height=160, steps=6, previews=2)
    events = list(load(toy, name).generate(request))
    shown = {step.index: step.preview for step in steps(events) if step.preview is not None}
    assert list(shown) == [2, 4]
    for preview in shown.values():
        assert max(preview.shape[:2]) <= 256
        assert preview.shape[1] == 2 * preview.shape[0]
    assert shown[2].std() > 0


def test_more_previews_than_steps_are_one_a_step_but_the_last(toy):
    request = ImageRequest("a red circle", 3, width=32, height=32, steps=3, previews=9)
    events = list(load(toy, "klein").generate(request))
    assert [step.preview is not None for step in steps(events)] == [False, True, True, False]


def test_previews_do_not_change_the_picture(toy):
    pipeline = load(toy, "z-image")
    plain = drawn(pipeline.generate(REQUEST))
    shown = ImageRequest("a red circle", 3, "blurry", width=48, height=32, steps=4, guidance=2.0, previews=3)
    assert (drawn(pipeline.generate(shown))[0] == plain[0]).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_closing_it_anywhere_leaves_no_memory_behind(toy, name):
    pipeline = load(toy, name)
    events = len(list(pipeline.generate(REQUEST)))
    held = mx.get_active_memory()
    for stop in range(1, events):
        walk = pipeline.generate(REQUEST)
        for _ in range(stop):
            next(walk)
        walk.close()
        assert mx.get_active_memory() == held, f"after event {stop} of {events}"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_request_draws_the_same_picture_again(toy, name):
    pipeline = load(toy, name)
    first, second = (drawn(pipeline.generate(REQUEST))[0] for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_seed_decides(toy, name):
    pipeline = load(toy, name)
    other = ImageRequest("a red circle", 4, "blurry", width=48, height=32, steps=4, guidance=2.0)
    assert (drawn(pipeline.generate(REQUEST))[0] != drawn(pipeline.generate(other))[0]).any()


@pytest.mark.parametrize("name", FAMILIES)
def test_compiled_steps_draw_the_same_picture(toy, name):
    eager, compiled = (
        drawn(load(toy, name, compiled=compiled).generate(REQUEST))[0] for compiled in (False, True)
    )
    assert (np.abs(eager.astype(int) - compiled.astype(int)) <= 1).mean() > 0.999


@pytest.mark.parametrize("name", FAMILIES)
def test_a_staged_model_draws_the_same_picture_in_strips(toy, name):
    whole = drawn(load(toy, name).generate(REQUEST))[0]
    staged = load(toy, name, memory="staged", strips=Strips(8, recompute=True))
    for _ in range(2):
        apart = np.abs(drawn(staged.generate(REQUEST))[0].astype(int) - whole.astype(int))
        assert apart.max() <= 1
        assert (apart == 0).mean() > 0.999


def test_a_staged_model_holds_its_encoder_or_its_transformer(toy, monkeypatch):
    pipeline = load(toy, "flux dev", memory="staged")
    assert not any(part.held for part in (*pipeline.encoders, pipeline.transformer))
    list(pipeline.generate(REQUEST))
    assert pipeline.transformer.held
    assert not any(encoder.held for encoder in pipeline.encoders)
    monkeypatch.setattr(pipeline, "encode_prompt", lambda prompt: pytest.fail("a prompt was encoded again"))
    assert len(drawn(pipeline.generate(REQUEST))) == 1


@pytest.mark.slow
def test_staged_peaks_below_resident_by_most_of_the_encoder(toy):
    request = ImageRequest("a red circle", 3, width=32, height=32, steps=1)
    peaks = {}
    for memory in ("resident", "staged"):
        pipeline = load(toy, "klein heavy", memory=memory)
        peaks[memory] = report(pipeline.generate(request)).peak_bytes
        if memory == "resident":
            encoder = sum(value.nbytes for _, value in mlx_leaves(pipeline.encoders[0]()))
        del pipeline
        mx.clear_cache()
    assert encoder > 25e6
    assert peaks["resident"] - peaks["staged"] >= 0.9 * encoder


def mlx_leaves(network):
    from mlx.utils import tree_flatten

    return tree_flatten(network.parameters())


def test_encoded_prompts_are_cached_within_their_bytes(toy):
    pipeline = load(toy, "klein", embedding_bytes=0)
    list(pipeline.generate(REQUEST))
    assert pipeline.prompt_cache.nbytes == 0
    pipeline = load(toy, "klein")
    list(pipeline.generate(REQUEST))
    assert pipeline.prompt_cache.nbytes == 512 * 66 * 4


@pytest.mark.parametrize(
    ("name", "cut"),
    [("klein base", "512 tokens fit"), ("z-image", "512 tokens fit"), ("flux schnell", "256 tokens fit")],
)
def test_a_prompt_that_does_not_fit_is_told(toy, name, cut):
    request = ImageRequest("a lighthouse at dusk, " * 80, 3, width=16, height=16, steps=1)
    assert any(cut in warning for warning in report(load(toy, name).generate(request)).warnings)


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("klein", {"guidance": 3.0, "negative_prompt": "blurry"}, ["guidance has", "negative_prompt has"]),
        ("z-image-turbo", {"negative_prompt": "blurry"}, ["negative_prompt has no effect without guidance"]),
        ("flux schnell", {"guidance": 3.0}, ["guidance has no effect without a negative prompt"]),
        ("flux dev", {"guidance": 1.0, "negative_prompt": "blurry"}, ["negative_prompt has no effect"]),
        ("flux dev", {"cfg_truncation": 0.5}, ["cfg_truncation has no effect on this model"]),
        ("flux dev", {"negative_prompt": "", "guidance": 3.0}, []),
        ("klein base", {"negative_prompt": "blurry"}, []),
    ],
)
def test_what_has_no_effect_is_told(toy, name, settings, text):
    warnings = load(toy, name).plan(ImageRequest("a red circle", 1, **settings)).warnings
    assert len(warnings) == len(text)
    for warning, start in zip(warnings, text, strict=True):
        assert warning.startswith(start)


@pytest.mark.parametrize(
    ("name", "steps", "guidance", "context"),
    [
        ("klein", 4, None, 512),
        ("klein base", 50, 4.0, 512),
        ("z-image-turbo", 8, None, 512),
        ("z-image", 50, 5.0, 512),
        ("flux schnell", 4, None, 256),
        ("flux dev", 28, 3.5, 512),
    ],
)
def test_a_bare_request_is_what_the_files_suggest(toy, name, steps, guidance, context):
    pipeline = load(toy, name)
    plan = pipeline.plan(ImageRequest("a red circle", 1))
    assert (plan.denoise_steps, plan.guidance, pipeline.context, plan.width) == (steps, guidance, context, 64)
