"""ControlNets of Z-Image and FLUX.1: pictures as the reference's, and what cannot be drawn."""

import dataclasses

import numpy as np
import pytest
from msgspec import structs

from pipelines.base import ImageRequest, PipelineError
from pipelines.controls import Control, parse_control
from tests.pipelines import control_toys
from tests.pipelines.families import pipeline_class
from tests.pipelines.pictures import assert_same, drawn, painted
from tests.pipelines.toys import REFERENCES

REQUEST = ImageRequest("a red circle", 6, steps=1, width=32, height=32)


@pytest.mark.parametrize("name", control_toys.STORED)
def test_a_picture_is_the_references(toy, tmp_path, name):
    family, how, plain = control_toys.STORED[name]
    net = dataclasses.replace(control_toys.write(name, tmp_path), **how)
    loaded = pipeline_class(family).load(toy(family))
    with np.load(REFERENCES / "controlnets.npz") as stored:
        expected = stored[name]
    for mine, theirs in zip(
        drawn(loaded.generate(control_toys.request_with(plain, [net]))), expected, strict=True
    ):
        assert_same(mine, theirs)


def test_nets_with_blocks_of_different_kinds_add_up(toy, tmp_path):
    """One has no single blocks, and the other fewer than the transformer: the reference leaves out what not both have."""
    nets = [
        dataclasses.replace(control_toys.write("flux dev, union", tmp_path / "union"), mode=1),
        dataclasses.replace(control_toys.write("flux dev", tmp_path / "plain"), scale=0.5),
    ]
    loaded = pipeline_class("flux dev").load(toy("flux dev"))
    both = drawn(loaded.generate(control_toys.request_with(REQUEST, nets)))[0].astype(int)
    swapped = control_toys.request_with(REQUEST, nets[::-1])
    swapped = structs.replace(swapped, control_images=swapped.control_images[::-1])
    assert (
        np.abs(both - drawn(loaded.generate(swapped))[0]).mean() > 0
    )  # each picture's sample is another one
    alone = drawn(loaded.generate(control_toys.request_with(REQUEST, nets[:1])))[0]
    assert np.abs(both - alone).mean() > 3


def test_a_net_is_left_out_of_the_steps_outside_of_its_part(toy, tmp_path):
    net = control_toys.write("flux schnell", tmp_path)
    loaded = pipeline_class("flux schnell").load(toy("flux schnell"))
    request = structs.replace(REQUEST, steps=2)
    never = drawn(loaded.generate(control_toys.request_with(request, [dataclasses.replace(net, scale=0)])))
    late = drawn(loaded.generate(control_toys.request_with(request, [dataclasses.replace(net, start=0.9)])))
    once = drawn(loaded.generate(control_toys.request_with(request, [dataclasses.replace(net, end=0.5)])))
    assert (never[0] == late[0]).all()
    assert (never[0] != once[0]).mean() > 0.3


@pytest.mark.parametrize(
    ("family", "name", "config", "how", "message"),
    [
        ("flux dev", "flux dev, union", {}, {}, "is a union; mode from 0 to 4 is needed"),
        ("flux dev", "flux dev, union", {}, {"mode": 5}, "mode from 0 to 4"),
        ("flux dev", "flux dev", {}, {"mode": 1}, "has no modes; leave mode out"),
        ("flux dev", "flux schnell", {}, {}, "the ControlNet's in_channels is 24"),
        (
            "flux dev",
            "z-image-turbo",
            {},
            {},
            "it is a 'ZImageControlNetModel'; FluxControlNetModel is needed",
        ),
        ("flux dev", "flux dev", {"conditioning_embedding_channels": 4}, {}, "networks that read pixels"),
        ("flux dev", "flux dev", {"num_layers": 2}, {}, "lack|miss"),
        ("z-image-turbo", "z-image, refined", {}, {}, "the ControlNet's dim is 48, and the transformer's 60"),
        ("z-image", "z-image, refined", {"control_layers_places": [0, 7]}, {}, "has 3 layers"),
        ("z-image", "z-image, refined", {"control_layers_places": [1]}, {}, "layers in order, from 0 on"),
        ("z-image", "z-image, refined", {"add_control_noise_refiner": "all"}, {}, "'all'"),
    ],
)
def test_a_net_that_does_not_fit_is_refused(toy, tmp_path, family, name, config, how, message):
    net = dataclasses.replace(control_toys.write(name, tmp_path, **config), **how)
    loaded = pipeline_class(family).load(toy(family))
    with pytest.raises(PipelineError, match=f"^controls: .*({message})"):
        drawn(loaded.generate(control_toys.request_with(REQUEST, [net])))


@pytest.mark.parametrize(
    ("family", "fields", "message"),
    [
        ("klein", {}, "controls: ControlNets are not supported for this model"),
        ("flux dev", {"images": (painted(32, 32),)}, "controls: they cannot be combined with images"),
        ("flux dev", {"outpaint": "8", "images": (painted(32, 32),)}, "controls: they cannot be combined"),
        ("z-image-turbo", {"controls": (Control("a"), Control("b"))}, "controls: this model takes one"),
        ("flux dev", {"controls": (Control("a", start=0.5, end=0.5),)}, r"controls\[0\]: start is 0.5"),
    ],
)
def test_what_cannot_be_combined_is_said(toy, family, fields, message):
    request = structs.replace(REQUEST, **{"controls": (Control("a"),), **fields})
    with pytest.raises(PipelineError, match=f"^{message}"):
        pipeline_class(family).load(toy(family)).plan(request)


def test_without_a_size_the_picture_has_the_shape_of_what_it_follows(toy):
    request = ImageRequest("a", 1, controls=(Control("a"),), control_images=(painted(75, 50),))
    plan = pipeline_class("flux dev").load(toy("flux dev")).plan(request)
    assert (plan.width, plan.height, plan.controls) == (72, 48, ((72, 48),))


def test_controls_are_written_as_name_picture_scale_and_options():
    path, fields = parse_control("owner/name=a:b,c.png:0.8,start=0.1,end=.5,mode=2")
    assert str(path) == "a:b,c.png"
    assert fields == {"name": "owner/name", "scale": 0.8, "start": 0.1, "end": 0.5, "mode": 2}
    assert parse_control("canny=edges.png") == (path.with_name("edges.png"), {"name": "canny"})
    for wrong in ("canny", "=a.png", "canny=", "canny=a.png,mode=x"):
        with pytest.raises(ValueError, match=r"NAME=PICTURE|not a number"):
            parse_control(wrong)
