"""Pictures that start from a picture, or look at some, against the reference."""

import pytest

from pipelines.base import ImageRequest
from tests.pipelines.families import pipeline_class
from tests.pipelines.pictures import assert_same, drawn, painted

STARTS = [
    ("klein", {}),
    ("klein base", {"guidance": 2.0, "negative_prompt": "blurry"}),
    ("z-image-turbo", {}),
    ("z-image", {"guidance": 1.5, "negative_prompt": "blurry"}),
    ("flux schnell", {}),
    ("flux dev", {"guidance": 3.0}),
    ("qwen-image", {"guidance": 2.5}),
]


@pytest.mark.reference
@pytest.mark.parametrize("strength", [0.3, 0.6, 1.0])
@pytest.mark.parametrize(("name", "more"), STARTS, ids=[name for name, _ in STARTS])
def test_a_start_is_noised_as_far_as_its_strength_says(saved, name, more, strength):
    from tests.pipelines import reference

    theirs, local = saved(name)
    # Of a size that is cut to the multiple of each toy: 16 and 4 pixels.
    request = ImageRequest(
        "a red circle", 4, images=(painted(49, 66),), strength=strength, width=48, height=64, steps=5, **more
    )
    expected = reference.from_picture(theirs, request)
    assert_same(drawn(pipeline_class(name).load(local).generate(request))[0], expected[0])


@pytest.mark.reference
@pytest.mark.parametrize("name", ["klein", "z-image", "flux dev"])
def test_several_pictures_start_alike_and_differ_in_their_noise(saved, name):
    from tests.pipelines import reference

    theirs, local = saved(name)
    request = ImageRequest(
        "a red circle", 4, images=(painted(32, 48),), strength=0.8, width=32, height=48, steps=3, n=2,
        guidance=1.5 if name != "klein" else None,
    )  # fmt: skip
    ours = drawn(pipeline_class(name).load(local).generate(request))
    for mine, expected in zip(ours, reference.from_picture(theirs, request), strict=True):
        assert_same(mine, expected)
    assert (ours[0] != ours[1]).any()


@pytest.mark.reference
@pytest.mark.parametrize(
    ("sizes", "width", "height"),
    [(((75, 93),), None, None), (((75, 93), (130, 66), (64, 64)), 64, 48), (((160, 70),), None, 32)],
    ids=["one, its size", "three, another size", "one, half a size"],
)
@pytest.mark.parametrize("name", ["klein", "klein base", "klein kv"])
def test_klein_looks_at_its_references(saved, name, sizes, width, height):
    from tests.pipelines import reference

    theirs, local = saved(name)
    images = tuple(painted(*size, seed) for seed, size in enumerate(sizes))
    guidance = 2.0 if name == "klein base" else None
    request = ImageRequest(
        "make it blue", 6, width=width, height=height, steps=2, images=images, guidance=guidance
    )
    expected = reference.pictures(theirs, request)
    assert_same(drawn(pipeline_class(name).load(local).generate(request))[0], expected[0])


@pytest.mark.reference
def test_a_large_reference_is_reduced_to_a_megapixel(saved):
    from tests.pipelines import reference

    theirs, local = saved("klein")
    request = ImageRequest("make it blue", 6, width=32, height=32, steps=1, images=(painted(1300, 1000),))
    expected = reference.pictures(theirs, request)
    assert_same(drawn(pipeline_class("klein").load(local).generate(request))[0], expected[0])


@pytest.mark.reference
@pytest.mark.parametrize("name", ["klein base", "z-image-turbo", "flux dev"])
def test_several_pictures_of_one_prompt_are_the_references(saved, name):
    from tests.pipelines import reference

    theirs, local = saved(name)
    guidance = 2.0 if name != "z-image-turbo" else None
    request = ImageRequest("zwei Äpfel", 12, width=32, height=48, steps=2, n=3, guidance=guidance)
    ours = drawn(pipeline_class(name).load(local).generate(request))
    for mine, expected in zip(ours, reference.pictures(theirs, request), strict=True):
        assert_same(mine, expected)
