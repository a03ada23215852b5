import pytest

from pipelines.base import ImageRequest
from pipelines.flux2 import Flux2Klein
from pipelines.settings import Settings
from tests.pipelines.pictures import assert_same, drawn

LONG = "a lighthouse at dusk, "


@pytest.mark.reference
@pytest.mark.parametrize(
    ("prompt", "width", "height", "steps", "seed"),
    [
        ("a red circle", 64, 64, 4, 1),
        ("ein kühler Morgen über den Dächern, 海は静かで 🫖", 272, 144, 2, 987654321),
        (LONG * 20, 144, 80, 1, 7),
        (LONG * 60, 48, 64, 9, 3),
        ("", 32, 16, 3, 2**40 + 5),
    ],
    ids=["four steps", "wide, not English", "one step, long", "nine steps, too long", "no words"],
)
def test_distilled_klein_draws_the_references_picture(saved, prompt, width, height, steps, seed):
    from tests.pipelines import reference

    theirs, local = saved("klein")
    request = ImageRequest(prompt, seed, width=width, height=height, steps=steps)
    expected = reference.pictures(theirs, request)
    ours = drawn(Flux2Klein.load(local, Settings()).generate(request))
    assert_same(ours[0], expected[0])


@pytest.mark.reference
@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize(("width", "height"), [(64, 64), (36, 52)])
def test_base_klein_is_guided_away_from_the_negative_prompt(saved, guidance, width, height):
    from tests.pipelines import reference

    theirs, local = saved("klein base")
    request = ImageRequest(
        "a red circle", 5, "blurry, " * 9, width=width, height=height, steps=4, guidance=guidance
    )
    expected = reference.pictures(theirs, request)
    assert_same(drawn(Flux2Klein.load(local).generate(request))[0], expected[0])
