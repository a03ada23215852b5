"""Skipped steps are those that diffusers' hooks skip, and the pictures theirs."""

from typing import Any

import pytest

from pipelines.base import ImageRequest, PipelineError
from pipelines.step_cache.caches import mag_skips
from pipelines.step_cache.settings import FirstBlock, Mag, TaylorSeer, parse_step_cache
from tests.pipelines.families import pipeline_class
from tests.pipelines.pictures import assert_same, drawn, report

RATIOS = (1.0, 1.2, 1.1, 1.05, 1.02, 1.01, 0.99, 0.97, 0.94, 0.9)
MAG = f"mag:threshold=0.2,max_skip_steps=2,retention_ratio=0.25,ratios={'/'.join(map(str, RATIOS))}"
TAYLOR = "taylorseer:cache_interval=3,disable_cache_before_step=2,max_order=2"
REQUEST: dict[str, Any] = {"width": 48, "height": 32, "steps": 9}


def load(toy, name):
    return pipeline_class(name).load(toy(name))


def hook(text: str, steps: int) -> Any:
    """The same settings for the reference."""
    hooks = pytest.importorskip("diffusers.hooks")
    torch = pytest.importorskip("torch")
    settings = parse_step_cache(text)
    if isinstance(settings, FirstBlock):
        return hooks.FirstBlockCacheConfig(threshold=settings.threshold)
    if isinstance(settings, Mag):
        return hooks.MagCacheConfig(
            threshold=settings.threshold, max_skip_steps=settings.max_skip_steps,
            retention_ratio=settings.retention_ratio, num_inference_steps=steps, mag_ratios=list(settings.ratios),
        )  # fmt: skip
    return hooks.TaylorSeerCacheConfig(
        cache_interval=settings.cache_interval, disable_cache_before_step=settings.disable_cache_before_step,
        disable_cache_after_step=settings.disable_cache_after_step, max_order=settings.max_order,
        taylor_factors_dtype=torch.float32, use_lite_mode=True,
    )  # fmt: skip


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "text", "more"),
    [
        ("flux dev", "first_block:threshold=0.75", {"guidance": 2.0}),
        ("flux dev", "first_block:threshold=0.75", {"guidance": 2.0, "negative_prompt": "blurry"}),
        ("flux dev", MAG, {"guidance": 2.0, "negative_prompt": "blurry"}),
        ("flux schnell", TAYLOR, {}),
        ("flux dev", f"{TAYLOR},disable_cache_after_step=7", {"guidance": 2.0, "negative_prompt": "blurry"}),
        ("klein base", MAG, {"guidance": 3.0, "negative_prompt": "blurry"}),
        ("klein base", TAYLOR, {"guidance": 3.0}),
    ],
)
def test_skipped_steps_draw_the_references_picture(saved, name, text, more):
    from tests.pipelines import reference

    theirs, local = saved(name, "step cache")
    request = ImageRequest("a red circle", 5, step_cache=text, **REQUEST | more)
    theirs.transformer.enable_cache(hook(text, 9))
    try:
        (expected,) = reference.pictures(theirs, request)
    finally:
        theirs.transformer.disable_cache()
    events = list(pipeline_class(name).load(local).generate(request))
    assert 0 < (report(events).skipped_steps or 0) < 9
    assert_same(drawn(events)[0], expected)
    plain = drawn(
        pipeline_class(name).load(local).generate(ImageRequest("a red circle", 5, **REQUEST | more))
    )
    assert (plain[0] != drawn(events)[0]).any()


@pytest.mark.reference
def test_z_images_output_goes_on_as_the_references_hook_lets_it(saved):
    from diffusers.hooks import TaylorSeerCacheConfig, apply_taylorseer_cache
    from diffusers.hooks.hooks import CacheContext, _set_cache_context

    from tests.pipelines import reference

    torch = pytest.importorskip("torch")
    theirs, local = saved("z-image", "step cache")
    request = ImageRequest("a red circle", 5, "blurry", guidance=2.0, step_cache=TAYLOR, **REQUEST)
    config = TaylorSeerCacheConfig(
        cache_interval=3, disable_cache_before_step=2, max_order=2, taylor_factors_dtype=torch.float32,
        cache_identifiers=[r"all_final_layer\.[^.]+"], skip_predict_identifiers=[r"layers\.[0-9]+"],
    )  # fmt: skip
    apply_taylorseer_cache(theirs.transformer, config)
    _set_cache_context(theirs.transformer, CacheContext("batch"))
    (expected,) = reference.pictures(theirs, request)
    events = list(pipeline_class("z-image").load(local).generate(request))
    assert report(events).skipped_steps == 5
    assert_same(drawn(events)[0], expected)


@pytest.mark.parametrize("name", ["flux dev", "klein base", "z-image"])
@pytest.mark.parametrize("text", ["first_block:threshold=0", "mag:calibrate", "taylorseer:cache_interval=1"])
def test_a_cache_that_skips_nothing_draws_the_plain_picture(toy, name, text):
    pipeline = load(toy, name)
    more = {"guidance": 2.0, "negative_prompt": "blurry", "width": 32, "height": 32, "steps": 3}
    plain = drawn(pipeline.generate(ImageRequest("a red circle", 5, **more)))
    events = list(pipeline.generate(ImageRequest("a red circle", 5, step_cache=text, **more)))
    assert report(events).skipped_steps == 0
    assert_same(drawn(events)[0], plain[0])


def test_each_picture_begins_anew_and_compiled_parts_draw_the_same(toy):
    more = {"width": 32, "height": 32, "steps": 6, "guidance": 2.0, "negative_prompt": "blurry"}
    request = ImageRequest(
        "a red circle", 5, step_cache="first_block:threshold=0.9", seeds=(5, 6), guidance_until=0.5, **more
    )
    from pipelines.settings import Settings

    events = list(load(toy, "flux dev").generate(request))
    assert (report(events).skipped_steps or 0) > 0
    alone = ImageRequest("a red circle", 6, step_cache=request.step_cache, guidance_until=0.5, **more)
    compiled = pipeline_class("flux dev").load(toy("flux dev"), Settings(compiled=True))
    assert (drawn(load(toy, "flux dev").generate(alone))[0] == drawn(events)[1]).all()
    assert_same(drawn(compiled.generate(alone))[0], drawn(events)[1])


def test_ratios_are_measured_and_then_used(toy):
    pipeline = load(toy, "z-image")
    calibrating = ImageRequest("a red circle", 5, step_cache="mag:calibrate", guidance=2.0, **REQUEST)
    (note,) = report(pipeline.generate(calibrating)).warnings
    measured = note.removeprefix("step_cache: measured ")
    text = f"mag:threshold=2,{measured}"
    assert len(parse_step_cache(text).ratios) == 9
    request = ImageRequest("a red circle", 5, step_cache=text, guidance=2.0, **REQUEST)
    assert report(pipeline.generate(request)).skipped_steps == sum(mag_skips(parse_step_cache(text), 9)) > 0
    with pytest.raises(PipelineError, match="mag needs ratios"):
        pipeline.plan(ImageRequest("a red circle", 5, step_cache="mag"))


@pytest.mark.reference
@pytest.mark.parametrize("until", [0.0, 0.4])
def test_guidance_ends_where_the_reference_is_told_to_end_it(saved, until):
    from tests.pipelines import reference

    theirs, local = saved("klein base")
    request = ImageRequest(
        "a red circle", 5, "blurry", width=48, height=32, steps=6, guidance=3.0, guidance_until=until
    )
    stop = int(until * 6)

    def end(pipeline, step, timestep, tensors):
        if step + 1 >= stop:
            pipeline._guidance_scale = 1.0
        return tensors

    more = {"callback_on_step_end": end} if stop else {"guidance_scale": 1.0}
    (expected,) = reference.pictures(theirs, request, **more)
    assert_same(drawn(pipeline_class("klein base").load(local).generate(request))[0], expected)


def test_what_gains_nothing_is_told(toy):
    klein = load(toy, "klein")
    plan = klein.plan(ImageRequest("a boat", 1, step_cache="first_block", guidance_until=0.5))
    assert any("distilled" in warning for warning in plan.warnings)
    assert any("guidance_until has no effect" in warning for warning in plan.warnings)
    request = ImageRequest("a boat", 1, guidance_until=0.5, steps=1, width=32, height=32)
    assert (
        "guidance_until has no effect without guidance"
        in report(load(toy, "flux dev").generate(request)).warnings
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("first_block", FirstBlock()),
        ("first_block:threshold=0.1", FirstBlock(0.1)),
        ("mag:ratios=1/0.9, calibrate=false", Mag(ratios=(1.0, 0.9))),
        ("taylorseer:disable_cache_after_step=9", TaylorSeer(disable_cache_after_step=9)),
    ],
)
def test_settings_are_read(text, expected):
    assert parse_step_cache(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("teacache", "'teacache' is not a step cache"),
        ("first_block:treshold=1", "no setting 'treshold'"),
        ("first_block:threshold=much", "'much' is not a number"),
        ("first_block:threshold=nan", "out of range"),
        ("first_block:threshold=1,threshold=2", "given twice"),
        ("taylorseer:max_order=1.5", "whole number"),
        ("taylorseer:cache_interval=0", "1 to 1000"),
        ("mag:calibrate=perhaps", "true or false"),
        ("mag:ratios=" + "/".join(["1"] * 1001), "too many"),
    ],
)
def test_what_is_wrong_with_settings_is_said(toy, text, complaint):
    with pytest.raises(PipelineError, match=complaint) as error:
        load(toy, "klein").plan(ImageRequest("a boat", 1, step_cache=text))
    assert str(error.value).startswith("step_cache: ")


def test_ratios_of_other_schedules_are_stretched():
    settings = Mag(threshold=0.2, max_skip_steps=2, retention_ratio=0.25, ratios=RATIOS)
    assert len(mag_skips(settings, 30)) == 30
    assert not any(mag_skips(settings, 1))
    assert sum(mag_skips(settings, 30)) > sum(mag_skips(settings, 10)) > 0


def test_controls_are_refused_and_other_families_say_that_they_cannot(toy):
    pipeline = load(toy, "flux dev")
    control = {"name": "edges", "image": "AAAA"}
    assert "step_cache" in pipeline.capabilities.supported_parameters
    request = ImageRequest("a boat", 1, step_cache="first_block", controls=(control,))  # type: ignore[arg-type]
    from pipelines.step_cache.plan import with_step_cache

    plan = pipeline.plan(ImageRequest("a boat", 1))
    with pytest.raises(PipelineError, match="cannot be combined with controls"):
        with_step_cache(plan, request, pipeline.variant, pipeline.defaults)
