"""Tiny autoencoders: pictures as the reference's AutoencoderTiny decodes them, previews, and what is refused."""

import shutil

import numpy as np
import pytest
from msgspec import structs

from models.config import ConfigError
from pipelines.base import ImageRequest, PipelineError, Step
from pipelines.settings import Settings
from tests.pipelines import tiny_toys
from tests.pipelines.families import pipeline_class
from tests.pipelines.pictures import assert_same, drawn
from tests.pipelines.toys import REFERENCES, local


@pytest.mark.parametrize("name", tiny_toys.TINY)
def test_a_picture_is_the_references(toy, tmp_path, name):
    tiny_toys.write(name, tmp_path)
    loaded = pipeline_class(name).load(toy(name), Settings(tiny_vae=local(tmp_path)))
    request = tiny_toys.REQUESTS[name]
    ours = drawn(loaded.generate(request))
    with np.load(REFERENCES / "tiny.npz") as stored:
        for mine, theirs in zip(ours, stored[name], strict=True):
            assert_same(mine, theirs)
    whole = drawn(loaded.generate(structs.replace(request, decode=None)))
    assert np.abs(whole[0].astype(int) - ours[0]).mean() > 3


@pytest.mark.reference
@pytest.mark.parametrize("name", tiny_toys.TINY)
def test_a_picture_is_the_references_live(saved, tmp_path, name):
    from tests.pipelines import reference

    theirs, model = saved(name, " tiny")
    theirs.vae = reference.module(tiny_toys.TINY[name])
    theirs.vae.save_pretrained(tmp_path)
    loaded = pipeline_class(name).load(model, Settings(tiny_vae=local(tmp_path)))
    request = structs.replace(tiny_toys.REQUESTS[name], steps=3, seed=8)
    for mine, expected in zip(
        drawn(loaded.generate(request)), reference.pictures(theirs, request), strict=True
    ):
        assert_same(mine, expected)


def test_one_in_the_models_folder_makes_the_previews(toy, tmp_path):
    name = "z-image-turbo"
    model = toy(name)
    shutil.copytree(model.folder, tmp_path / "model")
    tiny_toys.write(name, tmp_path / "model" / "vae_tiny")
    request = ImageRequest("a", 1, width=320, height=160, steps=2, previews=1)
    with_tiny = pipeline_class(name).load(local(tmp_path / "model")).generate(request)
    (shown,) = [event.preview for event in with_tiny if isinstance(event, Step) and event.preview is not None]
    plain = pipeline_class(name).load(model).generate(request)
    (usual,) = [event.preview for event in plain if isinstance(event, Step) and event.preview is not None]
    assert shown.shape == usual.shape == (128, 256, 3)
    assert (shown != usual).mean() > 0.5


def test_a_request_without_one_is_refused(toy):
    with pytest.raises(
        PipelineError, match=r"^decode: tiny needs a tiny autoencoder, and there is none: set tiny_vae"
    ):
        pipeline_class("flux dev").load(toy("flux dev")).plan(ImageRequest("a", 1, decode="tiny"))


def test_a_family_without_tiny_autoencoders_says_so(toy):
    plan = pipeline_class("klein").load(toy("klein")).plan(ImageRequest("a", 1, decode="tiny"))
    assert "decode has no effect on this model" in plan.warnings


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "AutoencoderKL"}, "tiny_vae: it is a 'AutoencoderKL'; AutoencoderTiny is needed"),
        ({"latent_channels": 4}, "its latents have 4 channels and 2 pixels a side, the model's 5 and 2"),
        ({"act_fn": "gelu"}, "act_fn is 'gelu'"),
        ({"decoder_block_out_channels": [10, 12]}, "all the same are supported"),
        ({"num_decoder_blocks": [1]}, "one number for each"),
    ],
)
def test_one_that_does_not_fit_is_refused_or_left_out(toy, tmp_path, config, message):
    tiny_toys.write("flux dev", tmp_path, **config)
    kind, model = pipeline_class("flux dev"), toy("flux dev")
    with pytest.raises(ConfigError, match=message):
        kind.load(model, Settings(tiny_vae=local(tmp_path), tiny_vae_chosen=True))
    found = kind.load(model, Settings(tiny_vae=local(tmp_path)))
    with pytest.raises(PipelineError, match=message):
        found.plan(ImageRequest("a", 1, decode="tiny"))
