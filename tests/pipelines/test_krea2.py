"""Krea 2 against the reference's pipeline."""

import mlx.core as mx
import numpy as np
import pytest

from models.config import ConfigError
from models.text_encoders.qwen3 import Qwen3Config, Qwen3Encoder
from pipelines.base import ImageRequest
from pipelines.krea2 import Krea2
from tests.pipelines import toys
from tests.pipelines.pictures import assert_same, drawn, painted

PROMPTS = {
    "none": "",
    "short": "a red circle",
    "long": "a lighthouse at dusk, " * 20,
    "cut": "海は静かで 🫖 " * 90,
}


@pytest.mark.reference
@pytest.mark.parametrize(
    ("prompt", "width", "height", "steps", "seed"),
    [
        ("short", 64, 64, 8, 1),
        ("long", 144, 80, 2, 2**33 + 9),
        ("cut", 48, 80, 1, 3),
        ("none", 32, 16, 3, 4),
    ],
)
def test_turbo_draws_the_references_picture(saved, prompt, width, height, steps, seed):
    from tests.pipelines import reference

    theirs, local = saved("krea2 turbo")
    request = ImageRequest(PROMPTS[prompt], seed, width=width, height=height, steps=steps)
    expected = reference.drawn(theirs, request)
    assert_same(drawn(Krea2.load(local).generate(request))[0], expected[0])


@pytest.mark.reference
@pytest.mark.parametrize("guidance", [0.0, 0.7, 4.5])
@pytest.mark.parametrize("negative", [None, "blurry, " * 40])
def test_raw_is_guided_as_the_reference_guides_it(saved, guidance, negative):
    from tests.pipelines import reference

    theirs, local = saved("krea2 raw")
    request = ImageRequest("zwei Äpfel 🍎", 8, negative, width=48, height=80, steps=3, guidance=guidance, n=2)
    expected = reference.drawn(theirs, request)
    for ours, picture in zip(drawn(Krea2.load(local).generate(request)), expected, strict=True):
        assert_same(ours, picture)


def test_a_prompt_that_is_cut_gives_a_warning(toy):
    pipeline = Krea2.load(toy("krea2 turbo"))
    assert not pipeline.encode_prompt(PROMPTS["short"]).warnings
    (warning,) = pipeline.encode_prompt(PROMPTS["cut"]).warnings
    assert warning.startswith("the prompt was cut")


def test_the_variants_have_their_own_defaults(toy):
    turbo, raw = (Krea2.load(toy(name)).plan(ImageRequest("x", 1)) for name in ("krea2 turbo", "krea2 raw"))
    assert (turbo.num_inference_steps, turbo.guidance) == (8, None)
    assert (raw.num_inference_steps, raw.guidance) == (28, 4.5)
    warned = Krea2.load(toy("krea2 turbo")).plan(ImageRequest("x", 1, "blurry"))
    assert warned.warnings == ("negative_prompt has no effect without guidance",)


def test_a_strength_of_one_leaves_nothing_of_the_picture(toy):
    pipeline = Krea2.load(toy("krea2 turbo"))
    size = {"width": 48, "height": 32}
    start = ImageRequest("a red circle", 4, steps=4, images=(painted(48, 32),), strength=0.5, **size)
    assert pipeline.plan(start).denoise_steps == 2
    (picture,) = drawn(pipeline.generate(start))
    assert picture.shape == (32, 48, 3)


def test_positions_may_stand_still():
    """Tokens at the positions that they would have anyway, and at others."""
    config = Qwen3Config(vocab_size=97, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, head_dim=8)  # fmt: skip
    network, ids = Qwen3Encoder(config), mx.array([[5, 6, 7, 8], [9, 1, 2, 3]])
    usual = network(ids)
    counted = network(ids, positions=mx.array([[0, 1, 2, 3]] * 2))
    assert np.allclose(np.array(usual), np.array(counted), atol=1e-5)
    still = network(ids, positions=mx.array([[0, 1, 2, 1]] * 2))
    assert np.allclose(np.array(usual[:, :3]), np.array(still[:, :3]), atol=1e-5)
    assert not np.allclose(np.array(usual[:, 3]), np.array(still[:, 3]), atol=1e-3)


@pytest.mark.parametrize(
    ("path", "changes", "said"),
    [
        ("transformer/config.json", {"text_hidden_dim": 44}, "text_hidden_dim is 44, but the text encoder"),
        (
            "transformer/config.json",
            {"num_text_layers": 4},
            "num_text_layers is 4, but the number of text_enc",
        ),
        ("transformer/config.json", {"axes_dims_rope": [4, 6, 8]}, "do not add up to 20"),
        ("transformer/config.json", {"num_key_value_heads": 3}, "4 attention heads cannot share 3"),
        ("model_index.json", {"patch_size": "2"}, "patch_size is '2'"),
        ("model_index.json", {"patch_size": 3}, "a patch of the autoencoder's z_dim is 45"),
        (
            "model_index.json",
            {"text_encoder_select_layers": [1, 3, "4"]},
            "a list of whole numbers is needed",
        ),
        (
            "model_index.json",
            {"text_encoder_select_layers": [1, 3, 40]},
            "do not exist in an encoder of 5 layers",
        ),
    ],
)
def test_parts_that_do_not_belong_together_are_named(tmp_path, path, changes, said):
    local = toys.write("krea2 turbo", tmp_path)
    toys._json(tmp_path / path, (local.read_json(path) or {}) | changes)
    with pytest.raises(ConfigError, match=said):
        Krea2.load(local)
