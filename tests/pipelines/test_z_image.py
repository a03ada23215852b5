import pytest
from mlx.utils import tree_flatten

from pipelines.base import ImageRequest
from pipelines.settings import Settings
from pipelines.z_image import ZImage
from tests.pipelines.pictures import assert_same, drawn

PROMPTS = {
    "none": "",
    "short": "a red circle",
    "long": "a lighthouse at dusk, " * 20,
    "cut": "海は静かで " * 90,
}


@pytest.mark.reference
@pytest.mark.parametrize(
    ("prompt", "width", "height", "steps", "seed"),
    [
        ("short", 64, 64, 8, 1),
        ("long", 272, 144, 2, 2**33 + 9),
        ("cut", 48, 80, 1, 3),
        ("none", 32, 16, 9, 4),
    ],
)
def test_turbo_draws_the_references_picture(saved, prompt, width, height, steps, seed):
    from tests.pipelines import reference

    theirs, local = saved("z-image-turbo")
    request = ImageRequest(PROMPTS[prompt], seed, width=width, height=height, steps=steps)
    expected = reference.pictures(theirs, request)
    assert_same(drawn(ZImage.load(local).generate(request))[0], expected[0])


@pytest.mark.reference
@pytest.mark.parametrize(
    ("guidance", "more"),
    [
        (0.0, {}),
        (0.7, {}),
        (3.0, {"cfg_normalization": 0.8}),
        (4.0, {"cfg_truncation": 0.4}),
        (2.0, {"cfg_normalization": 1.5, "cfg_truncation": 0.0}),
    ],
)
@pytest.mark.parametrize("negative", [None, "blurry, " * 40])
def test_base_is_guided_as_the_reference_guides_it(saved, guidance, more, negative):
    from tests.pipelines import reference

    theirs, local = saved("z-image")
    request = ImageRequest(
        "zwei Äpfel 🍎", 8, negative, width=36, height=52, steps=4, guidance=guidance, **more
    )
    expected = reference.pictures(theirs, request)
    assert_same(drawn(ZImage.load(local).generate(request))[0], expected[0])


def test_a_warm_up_leaves_no_length_of_a_prompt_to_be_traced(toy, monkeypatch):
    pipeline = ZImage.load(toy("z-image-turbo"), Settings(compiled=True))
    shapes, step = set(), pipeline.transformer().step

    def traced(*args):  # once for each of these shapes, where steps are compiled
        shapes.add(tuple(getattr(value, "shape", value) for _, value in tree_flatten(args)))
        return step(*args)

    monkeypatch.setattr(pipeline.transformer(), "step", traced)
    pipeline.warm()
    records = set(shapes)
    assert len(records) == len(pipeline.warmup_lengths())
    for words in (1, 40, 200):
        request = ImageRequest("boat " * words, 3, steps=2)
        list(pipeline.generate(request))
    assert shapes == records
