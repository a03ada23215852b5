"""FLUX.1 that looks at a picture (Kontext), follows one (Canny, Depth) or fills in masks (Fill), against the reference."""

import numpy as np
import pytest
from msgspec import structs

from pipelines.base import ImageRequest, PipelineError
from pipelines.flux_kontext import SIZES, FluxKontext
from pipelines.settings import RESIDENT
from tests.pipelines.families import pipeline_class
from tests.pipelines.pictures import assert_same, drawn, mask_of, painted
from tests.pipelines.toys import TOYS, local, write_texts

SIZE = (72, 64)
REQUEST = ImageRequest("a red circle", 6, steps=3, guidance=3.0, images=(painted(*SIZE),))
MASK = mask_of(*SIZE)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("flux kontext", {"width": 40, "height": 24, "n": 2}),
        ("flux kontext", {"width": 28, "height": 36, "negative_prompt": "blurry", "true_cfg_scale": 2.0}),
        ("flux kontext", {"width": 28, "height": 36, "images": ()}),
        ("flux kontext", {"mask": MASK, "strength": 0.7, "steps": 4}),
        ("flux control", {"width": 48, "height": 40}),
        ("flux fill", {"mask": MASK, "strength": 0.7, "steps": 4}),
    ],
)
def test_a_relatives_picture_is_the_references(saved, name, more):
    from tests.pipelines import reference

    theirs, model = saved(name)
    request = structs.replace(REQUEST, **more)
    ours = drawn(pipeline_class(name).load(model).generate(request))
    for mine, expected in zip(ours, reference.drawn(theirs, request), strict=True):
        assert_same(mine, expected)


def planner(name, folder):
    """A pipeline of which only the configs are there, which is enough to plan."""
    write_texts(TOYS[name], folder)
    return pipeline_class(name)(local(folder), RESIDENT)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("flux control", {"images": ()}, "images: this model needs a picture of edges or depths"),
        ("flux control", {"strength": 0.5}, "strength: this model follows its picture"),
        ("flux control", {"mask": MASK}, "mask, outpaint: this model follows its whole picture"),
        ("flux fill", {}, "mask: this model fills in a mask or a margin"),
        (
            "flux kontext",
            {"images": (painted(*SIZE),) * 2},
            "images: 2 were given; this model takes at most 1",
        ),
    ],
)
def test_what_a_relative_cannot_do_is_said(tmp_path, name, fields, message):
    with pytest.raises(PipelineError, match=f"^{message}"):
        planner(name, tmp_path).plan(structs.replace(REQUEST, **fields))


def test_kontext_draws_in_the_trained_size_of_the_nearest_shape(tmp_path):
    pipeline = planner("flux kontext", tmp_path)
    assert isinstance(pipeline, FluxKontext)
    plan = pipeline.plan(structs.replace(REQUEST, images=(painted(150, 100),)))
    # 1248 x 832 for a model of 1024 pixels; the toy's has 64.
    assert (plan.width, plan.height) == (76, 52)
    assert plan.reduced == ((76, 52),)
    requested = pipeline.plan(structs.replace(REQUEST, width=32, height=32))
    assert (requested.width, requested.height, requested.reduced) == (32, 32, ((68, 56),))
    assert all(width % 16 == height % 16 == 0 for width, height in SIZES)


@pytest.mark.parametrize("name", ["flux control", "flux fill"])
def test_a_relative_that_needs_a_picture_warms_up_with_one(toy, name):
    pipeline = pipeline_class(name).load(toy(name))
    progress = []
    pipeline.warm(progress.append)
    assert progress == sorted(progress)
    assert progress
    assert np.isfinite(progress).all()
