"""Qwen-Image-Edit against the reference, and what it refuses."""

import numpy as np
import pytest
from msgspec import structs

from models.config import ConfigError
from pipelines.base import ImageRequest, PipelineError
from pipelines.qwen_image_edit import LARGEST, QwenImageEdit, looked_size
from pipelines.settings import RESIDENT, Settings
from tests.pipelines import toys
from tests.pipelines.families import pipeline_class
from tests.pipelines.pictures import assert_same, drawn, mask_of, painted, report

ONE, TWO = painted(90, 66), painted(66, 75, seed=1)
REQUEST = ImageRequest("make it blue", 6, width=36, height=28, steps=3, guidance=2.5, images=(ONE,))
EDITS = ("qwen-image-edit", "qwen-image-edit-2509", "qwen-image-edit-2511")


def load(name, model, **settings):
    """The size of a toy, which the reference's files leave out."""
    pipeline = pipeline_class(name).load(model, Settings(**settings))
    pipeline.area = 64**2
    pipeline.seen_area = 64**2 if name == "qwen-image-edit" else 24**2
    return pipeline


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("qwen-image-edit", {"n": 2}),
        ("qwen-image-edit", {"width": None, "height": None, "negative_prompt": "blurry " * 30, "steps": 2}),
        ("qwen-image-edit", {"prompt": "", "guidance": 1.0, "images": (TWO,), "steps": 2}),
        ("qwen-image-edit-2509", {"prompt": "два яблока 🍎 " * 30}),
        ("qwen-image-edit-2509", {"images": (ONE, TWO), "width": None, "height": None}),
        ("qwen-image-edit-2511", {"images": (TWO, ONE, TWO[::-1].copy()), "negative_prompt": ""}),
        ("qwen-image-edit-2511", {"guidance": 1.0, "steps": 5}),
    ],
)
def test_it_edits_as_the_reference_does(saved, name, more):
    from tests.pipelines import reference

    theirs, model = saved(name)
    request = structs.replace(REQUEST, **more)
    ours = drawn(load(name, model).generate(request))
    for mine, expected in zip(ours, reference.drawn(theirs, request), strict=True):
        assert_same(mine, expected)


@pytest.mark.reference
@pytest.mark.parametrize("strength", [None, 0.7])
def test_a_masks_part_is_the_references(saved, strength):
    """The reference draws in its own size for the shape, which this picture has."""
    from tests.pipelines import reference

    theirs, model = saved("qwen-image-edit")
    more = {"images": (painted(64, 64),), "mask": mask_of(64, 64), "strength": strength, "steps": 4}
    request = structs.replace(REQUEST, **more, width=None, height=None)
    ours = drawn(load("qwen-image-edit", model).generate(request))
    assert_same(ours[0], reference.drawn(theirs, request)[0])


@pytest.mark.parametrize("name", EDITS)
def test_staged_it_draws_the_same(toy, name):
    resident, staged = (
        drawn(load(name, toy(name), memory=memory).generate(REQUEST))[0] for memory in ("resident", "staged")
    )
    assert (resident == staged).all()


def test_the_same_words_about_another_picture_are_encoded_anew(toy):
    pipeline = load("qwen-image-edit-2509", toy("qwen-image-edit-2509"))
    about = [
        pipeline.encode_prompts(["make it blue"], [pipeline._see(toys_picture(image))])[0].states[0]
        for image in (ONE, TWO, ONE)
    ]
    assert about[0] is about[2]
    assert about[0].shape != about[1].shape or np.abs(np.array(about[0]) - np.array(about[1])).max() > 0.1


def toys_picture(image):
    from PIL import Image

    return Image.fromarray(image)


def test_a_prompt_that_is_too_long_is_cut_with_a_warning(toy):
    pipeline = load("qwen-image-edit-2511", toy("qwen-image-edit-2511"))
    events = list(pipeline.generate(structs.replace(REQUEST, prompt="海は静かで " * 400, steps=2)))
    assert any("1024 tokens fit" in warning for warning in report(events).warnings)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("qwen-image-edit", {"images": ()}, "images: this model edits pictures"),
        ("qwen-image-edit", {"images": (ONE, TWO)}, "images: 2 were given; this model takes at most 1"),
        ("qwen-image-edit-2509", {"images": (ONE,) * 11}, "images: 11 were given; this model takes at most 10"),
        ("qwen-image-edit-2509", {"strength": 0.5}, "strength: this model looks at its pictures"),
        ("qwen-image-edit-2509", {"mask": mask_of(90, 66)}, "mask, outpaint: this model has none"),
        ("qwen-image-edit-2509", {"outpaint": "8"}, "mask, outpaint: this model has none"),
        ("qwen-image-edit", {"prompt": "a <|image_pad|>"}, "prompt: it has <|image_pad|>"),
        ("qwen-image-edit", {"negative_prompt": "<|image_pad|>"}, "negative_prompt: it has"),
        ("qwen-image-edit", {"steps": 1}, "steps: 1 is too few"),
    ],
)  # fmt: skip
def test_what_it_cannot_do_is_said(tmp_path, name, fields, message):
    toys.write_texts(toys.TOYS[name], tmp_path)
    pipeline = pipeline_class(name)(toys.local(tmp_path), RESIDENT)
    with pytest.raises(PipelineError, match=f"^{message.replace('|', '[|]')}"):
        pipeline.plan(structs.replace(REQUEST, **fields))


def test_pictures_are_looked_at_in_the_references_sizes_and_huge_ones_reduced_first(toy):
    assert looked_size((1024, 1024), 1024**2) == (1024, 1024)
    assert looked_size((1600, 900), 1024**2) == (1376, 768)
    assert looked_size((300, 900), 384**2) == (224, 672)
    pipeline = load("qwen-image-edit", toy("qwen-image-edit"))
    huge = np.broadcast_to(np.uint8(0), (3000, 4000, 3))
    plan = pipeline.plan(structs.replace(REQUEST, images=(huge,), width=None, height=None))
    ((width, height),) = plan.reduced
    assert width * height <= LARGEST
    assert (plan.width, plan.height) == (64, 64)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("processor/preprocessor_config.json", None, "preprocessor_config.json is missing"),
        ("processor/preprocessor_config.json", {"patch_size": 8}, "patch_size is 8, but that of vision_config is 6"),
        ("text_encoder/config.json", {"vision_config": None}, "vision_config is None"),
        ("text_encoder/config.json", {"image_token_id": 12}, "image_token_id says"),
    ],
)  # fmt: skip
def test_missing_or_wrong_parts_are_named(tmp_path, file, content, message):
    import json

    toys.write_texts(toys.TOYS["qwen-image-edit"], tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(json.dumps(json.loads((tmp_path / file).read_text()) | content))
    with pytest.raises(ConfigError, match=message):
        QwenImageEdit(toys.local(tmp_path), RESIDENT)


@pytest.mark.parametrize("name", EDITS)
def test_it_warms_up_with_a_picture(toy, name):
    progress = []
    load(name, toy(name)).warm(progress.append)
    assert progress[-1] == 1
