"""FLUX.3 klein against the reference's modular pipelines, without the language model that rewrites prompts."""

import numpy as np
import pytest

from models.config import ConfigError
from pipelines.base import ImageRequest
from pipelines.flux3 import Flux3Klein
from pipelines.images import fitted_size, to_whole_reference, whole_size
from pipelines.settings import Settings
from tests.pipelines import toys
from tests.pipelines.pictures import assert_same, drawn, painted

LONG = "a lighthouse at dusk, "


@pytest.mark.reference
@pytest.mark.parametrize(
    ("prompt", "width", "height", "steps", "images"),
    [
        ("a red circle", 64, 64, 4, ()),
        ("ein kühler Morgen, 海は静かで 🫖", 144, 80, 2, ()),
        (LONG * 20, 48, 64, 1, ()),
        ("", 32, 16, 3, ()),
        ("make it blue", None, None, 2, (painted(66, 75),)),
        ("make it blue", 48, 80, 2, (painted(66, 75),)),
        ("both of them", None, None, 2, (painted(66, 75), painted(90, 64, seed=1))),
    ],
    ids=["four steps", "not English", "long", "no words", "edited", "resized", "two references"],
)
def test_the_distilled_model_draws_the_references_picture(saved, prompt, width, height, steps, images):
    from tests.pipelines import reference

    theirs, local = saved("flux3 klein")
    request = ImageRequest(prompt, 7, width=width, height=height, steps=steps, images=images)
    expected = reference.drawn(theirs, request)
    assert_same(drawn(Flux3Klein.load(local, Settings()).generate(request))[0], expected[0])


@pytest.mark.reference
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize(("negative", "images"), [(None, ()), ("blurry, " * 40, (painted(66, 71),))])
def test_the_base_model_is_guided_as_the_reference_guides_it(saved, guidance, negative, images):
    from tests.pipelines import reference

    theirs, local = saved("flux3 klein base")
    size = {} if images else {"width": 36, "height": 52}
    request = ImageRequest(
        "zwei Äpfel 🍎", 8, negative, steps=3, guidance=guidance, n=2, images=images, **size
    )
    expected = reference.drawn(theirs, request)
    for ours, picture in zip(drawn(Flux3Klein.load(local).generate(request)), expected, strict=True):
        assert_same(ours, picture)


@pytest.mark.reference
@pytest.mark.parametrize("prompt", [LONG * 60, LONG * 3])
def test_a_prompt_longer_than_the_context_is_cut_where_the_reference_cuts_it(saved, monkeypatch, prompt):
    from tests.pipelines import reference

    theirs, local = saved("flux3 klein")
    pipeline = Flux3Klein.load(local)
    pipeline.context = 150  # the whole has 8192, more than a toy reads in a moment
    ours = pipeline.encode_prompt(prompt)
    step = theirs.blocks.sub_blocks["text_encoder"]
    options = reference.arguments(theirs, ImageRequest(prompt, 1))
    expected = step._get_qwen3_vl_prompt_embeds(
        theirs.text_encoder, theirs.tokenizer, prompt, max_sequence_length=150,
        hidden_states_layers=options["text_encoder_out_layers"],
    )  # fmt: skip
    assert np.allclose(np.array(ours.states[0]), expected.detach().numpy(), atol=2e-4)
    assert bool(ours.warnings) == (len(prompt) > 1000)


@pytest.mark.reference
@pytest.mark.parametrize("size", [(66, 75), (4096, 1024), (5000, 3001), (2047, 2049), (90, 70)])
def test_one_reference_is_prepared_as_the_reference_prepares_it(size):
    pytest.importorskip("diffusers")
    from diffusers.modular_pipelines.flux3.image_processor import Flux3ImageProcessor
    from PIL import Image

    processor, picture = Flux3ImageProcessor(), Image.new("RGB", size, (9, 90, 200))
    picture.putpixel((3, 4), (255, 0, 0))
    expected, more = processor.preprocess(picture)
    left, top, right, bottom = more["reference_crop"]
    fitted = fitted_size(*size)
    assert fitted == (right - left, bottom - top)
    ours = to_whole_reference(picture)
    assert ours.shape[1:3] == whole_size(*fitted)[::-1]
    assert np.array_equal(ours, expected.numpy().transpose(0, 2, 3, 1))


def test_a_picture_drawn_from_one_reference_has_its_size(toy):
    pipeline = Flux3Klein.load(toy("flux3 klein"))
    request = ImageRequest("make it blue", 6, steps=1, images=(painted(66, 75),))
    plan = pipeline.plan(request)
    assert (plan.width, plan.height, plan.size) == (80, 80, (66, 75))
    again = ImageRequest("make it blue", 6, steps=1, images=(painted(66, 75),), width=66, height=75)
    assert pipeline.plan(again) == plan, "a recipe repeats the picture"
    (picture,) = drawn(pipeline.generate(request, plan))
    assert picture.shape == (75, 66, 3)
    other = pipeline.plan(ImageRequest("x", 6, images=(painted(66, 75),), width=48))
    assert other.size == (48, 80)


def test_a_distilled_model_says_that_guidance_has_no_effect(toy):
    plan = Flux3Klein.load(toy("flux3 klein")).plan(ImageRequest("x", 1, "blurry", guidance=4.0))
    assert plan.guidance is None
    assert len(plan.warnings) == 2
    assert plan.num_inference_steps == 16


def test_a_strength_starts_from_the_picture_and_goes_on_to_the_same_end(toy):
    """At strength 1 nothing of the picture is left: the run is the whole one."""
    pipeline = Flux3Klein.load(toy("flux3 klein"))
    start = {"images": (painted(64, 64),), "strength": 1.0, "width": 64, "height": 64}
    (whole,) = drawn(pipeline.generate(ImageRequest("a red circle", 4, steps=2, width=64, height=64)))
    (started,) = drawn(pipeline.generate(ImageRequest("a red circle", 4, steps=2, **start)))
    assert_same(started, whole)
    half = pipeline.plan(ImageRequest("a red circle", 4, steps=4, **start | {"strength": 0.5}))
    assert half.denoise_steps == 2


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("transformer", {"joint_attention_dim": 44}, "joint_attention_dim is 44, but eight times"),
        ("transformer", {"cond_in_channels": 10}, "cond_in_channels is 10, but a patch"),
        ("text_encoder", {"text_config": 3}, "text_config is 3; an object is needed"),
    ],
)
def test_parts_that_do_not_belong_together_are_named(tmp_path, part, changes, said):
    local = toys.write("flux3 klein", tmp_path)
    config = tmp_path / part / "config.json"
    toys._json(config, (local.read_json(f"{part}/config.json") or {}) | changes)
    with pytest.raises(ConfigError, match=said):
        Flux3Klein.load(local)
