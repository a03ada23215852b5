"""Pictures drawn with ControlNets, against the reference's pipelines."""

import numpy as np
import pytest
from msgspec import structs

from pipelines.base import ImageRequest
from pipelines.settings import Settings
from tests.pipelines import control_toys
from tests.pipelines.families import pipeline_class
from tests.pipelines.pictures import assert_same, drawn

pytestmark = pytest.mark.reference

REQUEST = ImageRequest("a red circle", 6, steps=4, width=40, height=28)


def requested(tmp_path, request, nets, hows):
    """With these nets, each saved by the reference."""
    modules, choices = {}, []
    for net, how in zip(nets, hows, strict=True):
        if net not in modules:
            modules[net] = control_toys.module(net)
            modules[net].save_pretrained(tmp_path / net)
        choices.append(control_toys.choice(net, tmp_path / net, **how))
    return modules, control_toys.request_with(request, choices)


@pytest.mark.parametrize(
    ("toy", "nets", "hows", "more"),
    [
        ("z-image-turbo", ["z-image-turbo"], [{"scale": 0.8}], {"n": 2, "width": 48, "height": 32}),
        ("z-image", ["z-image, refined"], [{"end": 0.7}], {"guidance": 2.0, "negative_prompt": "blurry and long"}),
        ("z-image", ["z-image, refined by layers"], [{"scale": 0.6, "start": 0.25}], {"guidance": 0.0}),
        ("flux schnell", ["flux schnell"], [{"scale": 0.7, "start": 0.3, "end": 0.8}], {"guidance": 2.5, "width": 48, "height": 32}),
        ("flux dev", ["flux dev"], [{"scale": 0.9}], {"n": 2, "guidance": 3.0}),
        ("flux dev", ["flux dev, union"], [{"mode": 3}], {"negative_prompt": "blurry", "guidance": 2.0, "true_cfg_scale": 3.0}),
        ("flux dev", ["flux dev, union"] * 2, [{"mode": 3, "end": 0.5}, {"mode": 0, "scale": 0.4}], {"guidance": 2.0, "n": 2}),
        ("flux dev", ["flux dev", "flux dev, union"], [{"scale": 0.5}, {"mode": 1, "scale": 0.4}], {"guidance": 2.0}),
    ],
)  # fmt: skip
def test_a_picture_with_controlnets_is_the_references(saved, tmp_path, toy, nets, hows, more):
    from tests.pipelines import reference

    pipeline, model = saved(toy)
    modules, request = requested(tmp_path, structs.replace(REQUEST, **more), nets, hows)
    loaded = pipeline_class(toy).load(model)
    plain = drawn(loaded.generate(structs.replace(request, controls=None, controlnets=(), control_images=())))
    ours = drawn(loaded.generate(request))
    for mine, expected in zip(ours, reference.controlled(pipeline, request, modules), strict=True):
        assert_same(mine, expected)
    assert np.abs(plain[0].astype(int) - ours[0]).mean() > 3


@pytest.mark.parametrize(
    ("toy", "net"), [("flux schnell", "flux schnell"), ("z-image-turbo", "z-image-turbo")]
)
def test_staged_memory_draws_the_same(saved, tmp_path, toy, net):
    _, model = saved(toy)
    _, request = requested(tmp_path, structs.replace(REQUEST, width=48, height=32), [net], [{}])
    (expected,) = drawn(pipeline_class(toy).load(model).generate(request))
    staged = pipeline_class(toy).load(model, Settings(memory="staged"))
    for prompt in ("another", request.prompt):
        pictures = drawn(staged.generate(structs.replace(request, prompt=prompt)))
    assert_same(pictures[0], expected)
