"""Diffusers' pipelines behind our interface: their pictures, and our events."""

import gc
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import diffusers
import torch
from msgspec import structs

from pipelines.base import ImageRequest, Picture, PipelineError, Report
from pipelines.fallback.device import choose_device
from pipelines.fallback.pipeline import TorchPipeline
from pipelines.parameter_types import parameters_of
from pipelines.parameters import ImageParameters
from tests.pipelines.fallback.checkpoints import MADE, pipeline_name, toy
from tests.pipelines.families import pipeline_class
from tests.pipelines.pictures import assert_same, drawn, painted, report, steps
from tests.pipelines.toys import TOYS

pytestmark = pytest.mark.reference

PORTED = ["klein", "z-image-turbo", "flux schnell", "flux dev"]
# Compared with ours in test_flux_relatives.py, because they need pictures; in test_qwen_image.py, which needs a negative prompt; in
# test_flux3.py, which is a modular pipeline; and in test_krea2.py.
RELATIVES = {
    "FluxKontextPipeline",
    "FluxFillPipeline",
    "FluxControlPipeline",
    "Flux2KleinKVPipeline",
    "QwenImagePipeline",
    "QwenImageEditPipeline",
    "QwenImageEditPlusPipeline",
    "Flux3DistilledModularPipeline",
    "Flux3ModularPipeline",
    "Krea2Pipeline",
}
REQUEST = ImageRequest("a red circle", seed=7, width=48, height=32, steps=3)
_loaded: dict[str, TorchPipeline] = {}


def loaded(name: str) -> TorchPipeline:
    if name not in _loaded:
        # In float32 on a card too, so that pictures can be compared.
        _loaded[name] = TorchPipeline.load(toy(name), pipeline_name(name), "float32")
    return _loaded[name]


@pytest.fixture(scope="module", autouse=True)
def _exact() -> Iterator[None]:
    """On a card torch would round what convolutions are given; MLX is told not to by tests/conftest.py."""
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield
    _loaded.clear()


def draw(name: str, **fields: Any) -> list[Any]:
    return list(loaded(name).generate(structs.replace(REQUEST, **fields)))


@pytest.mark.parametrize("name", MADE)
def test_the_picture_is_that_of_diffusers_for_the_same_seed(name: str) -> None:
    theirs = diffusers.DiffusionPipeline.from_pretrained(toy(name).folder).to(choose_device())
    theirs.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(7)
    expected = theirs(
        "a red circle",
        negative_prompt="blue",
        width=48,
        height=32,
        num_inference_steps=3,
        generator=generator,
    ).images[0]
    np.testing.assert_array_equal(drawn(draw(name, negative_prompt="blue"))[0], np.asarray(expected))


@pytest.mark.parametrize(
    ("name", "missing", "references"),
    [
        ("klein", {"guidance", "negative_prompt", "strength", "feather", "outpaint"}, 10),
        ("pixart", {"strength", "feather", "outpaint"}, 0),
        ("sdxl", set(), 0),
    ],
)
def test_a_pipeline_supports_what_its_calls_take(name: str, missing: set[str], references: int) -> None:
    capabilities = loaded(name).capabilities
    common = {parameter.name for parameter in parameters_of(ImageParameters) if not parameter.family_specific}
    assert common - set(capabilities.supported_parameters) == missing
    assert capabilities.max_references == references


@pytest.mark.parametrize("name", MADE)
def test_every_step_is_told_before_and_after_and_previews_where_they_were_asked_for(name: str) -> None:
    events = draw(name, previews=1)
    reports = steps(events)
    walked = 4 if name == "sd" else 3  # its scheduler takes one more than it is asked for
    assert [(step.index, step.total) for step in reports] == [(index, walked) for index in range(walked + 1)]
    assert [step.index for step in reports if step.preview is not None] == [2]
    assert isinstance(events[-2], Picture)
    done = events[-1]
    assert isinstance(done, Report)
    assert min(done.encode_seconds, done.denoise_seconds, done.decode_seconds) >= 0
    assert done.peak_bytes > 0


@pytest.mark.parametrize("name", PORTED)
def test_a_family_of_ours_gives_the_same_picture_and_plan_by_either_engine(name: str) -> None:
    ours = pipeline_class(name).load(toy(name))
    # Of a size whose noise is a multiple of 16 numbers, as all real ones are: else torch draws two at once otherwise.
    request = ImageRequest("a red circle", seed=5, width=64, height=64, steps=3, previews=1, n=2)
    by_mlx, by_torch = list(ours.generate(request)), list(loaded(name).generate(request))
    for one, other in zip(drawn(by_torch), drawn(by_mlx), strict=True):
        assert_same(one, other)
    assert report(by_torch).plan == report(by_mlx).plan
    shown = [[step.preview for step in steps(events)] for events in (by_torch, by_mlx)]
    assert [preview is None for preview in shown[0]] == [preview is None for preview in shown[1]]
    for one, other in zip(*shown, strict=True):
        if one is not None and other is not None:
            assert np.abs(one.astype(int) - other.astype(int)).max() <= 2


@pytest.mark.parametrize("name", PORTED)
def test_what_a_request_leaves_open_is_the_same_by_either_engine(name: str) -> None:
    ours, theirs = pipeline_class(name).load(toy(name)), loaded(name)
    pictures = (painted(96, 80),)
    for request in (
        ImageRequest("a", 1),
        ImageRequest("a", 1, guidance=3.0),
        ImageRequest("a", 1, width=100, height=70),
        ImageRequest("a", 1, images=pictures),
    ):
        # Pictures are not reduced beforehand for diffusers, which has its own way to.
        assert theirs.plan(request) == replace(ours.plan(request), reduced=())
    assert theirs.context == ours.context


@pytest.mark.parametrize("name", ["klein", "flux schnell"])
def test_pictures_go_in_as_by_mlx(name: str) -> None:
    request = ImageRequest("make it blue", seed=4, steps=2, images=(painted(64, 64),))
    ours = pipeline_class(name).load(toy(name)).generate(request)
    assert_same(drawn(loaded(name).generate(request))[0], drawn(ours)[0])


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("flux dev", {"guidance": 2.0, "true_cfg_scale": 3.0}),
        ("flux dev", {"guidance": 2.0}),
        ("z-image", {"guidance": 3.0, "cfg_normalization": 1.0, "cfg_truncation": 0.6}),
    ],
)
def test_guidance_of_every_kind_means_the_same(name: str, fields: dict[str, Any]) -> None:
    request = ImageRequest("a red circle", 3, "blurry", width=32, height=32, steps=3, **fields)
    ours = pipeline_class(name).load(toy(name)).generate(request)
    assert_same(drawn(loaded(name).generate(request))[0], drawn(ours)[0])


@pytest.mark.parametrize("name", ["sdxl", "sd3", "qwen image"])
def test_a_picture_can_be_where_it_starts(name: str) -> None:
    events = draw(name, images=(painted(40, 40),), strength=0.5, steps=4, width=None, height=None)
    assert [step.index for step in steps(events)] == [0, 1, 2]
    assert drawn(events)[0].shape == (40, 40, 3)
    weak = draw(name, images=(painted(40, 40),), strength=0.25, steps=4)
    assert drawn(weak)[0].shape == (32, 48, 3), "a size that is given is respected"


def test_several_pictures_come_one_after_another_and_each_is_another() -> None:
    events = draw("sdxl", n=3, steps=2)
    assert [(step.index, step.total) for step in steps(events)] == [(index, 6) for index in range(7)]
    first, second, third = drawn(events)
    assert (first != second).any()
    assert (second != third).any()
    again = drawn(draw("sdxl", n=3, steps=2))
    assert all((one == other).all() for one, other in zip(again, (first, second, third), strict=True))
    np.testing.assert_array_equal(first, drawn(draw("sdxl", steps=2))[0])


def test_another_seed_or_prompt_or_guidance_is_another_picture() -> None:
    first = drawn(draw("sdxl"))[0]
    for change in ({"seed": 8}, {"prompt": "a blue square"}, {"guidance": 9.0}, {"negative_prompt": "red"}):
        assert (drawn(draw("sdxl", **change))[0] != first).any(), change


def test_a_picture_that_nobody_wants_any_more_stops_at_its_step() -> None:
    pipeline = loaded("sdxl")
    walk = pipeline.generate(structs.replace(REQUEST, steps=1000))
    assert [event.index for event in islice(walk, 3)] == [0, 1, 2]  # type: ignore[union-attr]
    walk.close()  # type: ignore[attr-defined]
    assert "torch" not in {thread.name for thread in threading.enumerate()}
    gc.collect()
    np.testing.assert_array_equal(drawn(draw("sdxl"))[0], drawn(draw("sdxl"))[0])


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        (
            "klein",
            {"negative_prompt": "blue"},
            "negative_prompt: diffusers' Flux2KleinPipeline does not take negative_prompt",
        ),
        (
            "klein",
            {"images": (painted(64, 64),), "strength": 0.5},
            "strength: diffusers' Flux2KleinPipeline does not take",
        ),
        (
            "pixart",
            {"images": (painted(64, 64),)},
            "images: diffusers' PixArtSigmaPipeline does not take image",
        ),
        ("sdxl", {"images": (painted(64, 64),) * 2}, "images: 2 are too many"),
        ("sdxl", {"width": 1}, "width: 1 is out of range"),
        ("sdxl", {"steps": 2000}, "steps: 2000 is out of range"),
        ("sdxl", {"guidance": float("nan")}, "guidance: nan is out of range"),
        ("sdxl", {"images": (painted(64, 64),), "strength": 0.3}, "strength: 0.3 leaves none of 3 steps"),
        ("sd3", {"images": (painted(64, 64),), "strength": 0.0}, "strength: 0.0 leaves none of 3 steps"),
    ],
)
def test_what_a_call_does_not_take_is_refused_by_name(name: str, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        loaded(name).plan(structs.replace(REQUEST, **fields))


@pytest.mark.parametrize(("name", "walked"), [("sdxl", 2), ("sd3", 3)])
def test_how_many_steps_a_strength_leaves_is_known_before(name: str, walked: int) -> None:
    reports = steps(draw(name, images=(painted(40, 40),), strength=0.5, steps=5))
    assert [(step.index, step.total) for step in reports] == [(index, walked) for index in range(walked + 1)]


def test_what_the_pipeline_refuses_is_an_error_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **more: Any) -> None:
        raise ValueError("`prompt` has to be\n of type `str`")

    pipeline = loaded("sdxl")
    monkeypatch.setattr(pipeline.call.pipeline, "check_inputs", refuse)
    with pytest.raises(
        PipelineError, match="diffusers' StableDiffusionXLPipeline: `prompt` has to be of type `str`"
    ):
        draw("sdxl")


def test_guidance_of_a_model_that_compares_needs_a_negative_prompt() -> None:
    pipeline = loaded("qwen image")
    alone = pipeline.plan(structs.replace(REQUEST, guidance=3.0))
    assert alone.guidance is None
    assert "no effect without a negative prompt" in alone.warnings[0]
    assert pipeline.plan(structs.replace(REQUEST, guidance=3.0, negative_prompt="")).guidance == 3.0
    assert pipeline.plan(structs.replace(REQUEST, negative_prompt="")).guidance == 4.0, "diffusers' own"


def test_a_prompt_that_was_cut_is_said() -> None:
    (said,) = report(draw("sdxl", prompt="boat " * 200)).warnings
    assert "truncated" in said
    assert len(said) < 400
    assert report(draw("sdxl")).warnings == ()


def test_half_precision_checkpoints_are_run_in_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = TorchPipeline.load(toy("sdxl"), "StableDiffusionXLPipeline", "checkpoint")
    assert kept.call.pipeline.unet.dtype == torch.float32
    assert kept.memory.held() > 50_000


def test_toys_of_every_family_of_ours_are_covered() -> None:
    families = {toy.pipeline for toy in TOYS.values()} - RELATIVES
    assert {TOYS[name].pipeline for name in PORTED} == families


@pytest.mark.parametrize("name", ["sdxl", "flux dev"])
def test_a_mask_is_drawn_by_the_inpainting_class(name: str) -> None:
    picture, mask = painted(50, 34), np.zeros((34, 50), np.bool_)
    mask[8:24, 10:30] = True
    events = draw(
        name, images=(picture,), mask=mask, outpaint="0 14 0 0", width=None, height=None, strength=0.9
    )
    (made,) = drawn(events)
    assert made.shape == (34, 64, 3)
    np.testing.assert_array_equal(made[:, :50][~mask], picture[~mask])
    assert (made[:, :50][mask] != picture[mask]).mean() > 0.9


def test_a_mask_is_refused_where_diffusers_has_no_class_for_it() -> None:
    with pytest.raises(PipelineError, match=r"(images|mask): diffusers' PixArt.* does not take"):
        loaded("pixart").plan(
            structs.replace(REQUEST, images=(painted(32, 32),), mask=np.ones((32, 32), np.bool_))
        )
