import pytest

from pipelines.base import ImageRequest
from pipelines.flux import Flux
from tests.pipelines.pictures import assert_same, drawn

PROMPTS = {
    "none": "",
    "short": "a red circle",
    "long": "a lighthouse at dusk, " * 20,
    "cut": "café déjà là " * 90,
}


@pytest.mark.reference
@pytest.mark.parametrize(
    ("prompt", "width", "height", "steps", "seed"),
    [
        ("short", 64, 64, 4, 1),
        ("long", 272, 144, 2, 2**33 + 9),
        ("cut", 48, 80, 1, 3),
        ("none", 32, 16, 9, 4),
    ],
)
def test_schnell_draws_the_references_picture(saved, prompt, width, height, steps, seed):
    from tests.pipelines import reference

    theirs, local = saved("flux schnell")
    request = ImageRequest(PROMPTS[prompt], seed, width=width, height=height, steps=steps)
    expected = reference.pictures(theirs, request)
    assert_same(drawn(Flux.load(local).generate(request))[0], expected[0])


@pytest.mark.reference
@pytest.mark.parametrize("toy", ["flux dev", "flux schnell"])
@pytest.mark.parametrize(
    ("guidance", "negative", "true_cfg_scale"),
    [(1.0, None, None), (5.5, None, None), (2.5, "blurry", None), (3.5, "", 2.0), (3.5, "blurry", 1.0)],
)
def test_guidance_is_the_references(saved, toy, guidance, negative, true_cfg_scale):
    from tests.pipelines import reference

    theirs, local = saved(toy)
    request = ImageRequest(
        PROMPTS["long"], 8, negative, width=48, height=64, steps=3, guidance=guidance, true_cfg_scale=true_cfg_scale
    )  # fmt: skip
    expected = reference.pictures(theirs, request)
    assert_same(drawn(Flux.load(local).generate(request))[0], expected[0])
