"""Pictures of several seeds, and variations of one: each is what it is alone."""

import msgspec
import numpy as np
import pytest

from pipelines.base import ImageRequest, Picture
from pipelines.recipe import Recipe
from pipelines.variations import Variation, parse_variation, slerp
from tests.pipelines.families import pipeline_class
from tests.pipelines.pictures import drawn, mask_of, painted, steps

SIZE = {"width": 40, "height": 32, "steps": 2}


def load(toy, name):
    return pipeline_class(name).load(toy(name))


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("klein", {}),
        ("z-image", {"images": (painted(40, 32),), "strength": 0.6}),
        ("flux schnell", {"images": (painted(48, 64),), "mask": mask_of(48, 64)}),
        ("flux fill", {"images": (painted(48, 36),), "mask": mask_of(48, 36)}),
        ("flux control", {"images": (painted(72, 64),)}),
    ],
)
def test_each_seed_draws_what_it_draws_alone(toy, name, more):
    pipeline = load(toy, name)
    more = SIZE | more if "mask" not in more else more | {"steps": 2}
    events = list(pipeline.generate(ImageRequest("a red circle", 5, seeds=(5, 2**40, 6), **more)))
    assert [event.index for event in events if isinstance(event, Picture)] == [0, 1, 2]
    assert [step.index for step in steps(events)] == list(range(steps(events)[-1].total + 1))
    assert steps(events)[-1].total % 3 == 0
    for seed, picture in zip((5, 2**40, 6), drawn(events), strict=True):
        (alone,) = drawn(pipeline.generate(ImageRequest("a red circle", seed, **more)))
        assert (picture == alone).all()
    assert (drawn(events)[0] != drawn(events)[2]).any()


def test_each_seed_has_all_variations(toy):
    pipeline = load(toy, "flux dev")
    variations = (Variation(7, 0.0), Variation(7, 0.3), Variation(7, 1.0))
    request = ImageRequest("a red circle", 3, seeds=(3, 4), variations=variations, guidance=2.0, **SIZE)
    pictures = drawn(pipeline.generate(request))
    assert len(pictures) == request.count == 6
    plain = [
        drawn(pipeline.generate(ImageRequest("a red circle", seed, guidance=2.0, **SIZE)))[0]
        for seed in (3, 4, 7)
    ]
    assert (pictures[0] == plain[0]).all()
    assert (pictures[3] == plain[1]).all()
    assert (pictures[2] == plain[2]).all()
    assert (pictures[5] == plain[2]).all()
    again = ImageRequest("a red circle", 4, variations=(variations[1],), guidance=2.0, **SIZE)
    assert (drawn(pipeline.generate(again))[0] == pictures[4]).all()
    assert (pictures[4] != pictures[3]).any()


@pytest.mark.reference
def test_the_arc_is_torchs_between_two_noises():
    torch = pytest.importorskip("torch")
    from diffusers.utils.torch_utils import randn_tensor

    noises = [
        randn_tensor((1, 4, 6, 10), generator=torch.Generator("cpu").manual_seed(seed)) for seed in (3, 7)
    ]
    a, b = (noise.flatten().double() for noise in noises)
    angle = torch.acos(torch.nn.functional.cosine_similarity(a, b, dim=0))
    expected = (torch.sin(0.7 * angle) * a + torch.sin(0.3 * angle) * b) / torch.sin(angle)
    ours = slerp(noises[0].numpy(), noises[1].numpy(), 0.3)
    np.testing.assert_allclose(ours.ravel(), expected.float().numpy(), rtol=1e-6)


def test_a_variation_stays_as_strong_as_noise():
    first, second = (np.random.default_rng(seed).standard_normal((50, 40, 4), np.float32) for seed in (1, 2))
    assert np.std(slerp(first, second, 0.5)) == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(slerp(first, first, 0.4), first, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"seeds": (1, 2), "n": 2}, "n: 2 cannot be combined with seeds"),
        ({"variations": [{"seed": 1, "strength": 0.1}], "n": 3}, "n: 3 cannot be combined with variations"),
        ({"seeds": (1, 2), "seed": 2}, "seed: 2 is not the first of seeds"),
        ({"seeds": tuple(range(1, 10)), "variations": [{"seed": 1, "strength": 0.1}] * 2}, "16 pictures are allowed"),
        ({"seeds": (2**64,)}, "out of range"),
        ({"seeds": (0,)}, ">= 1"),
        ({"seeds": ()}, "length >= 1"),
        ({"seeds": tuple(range(1, 18))}, "length <= 16"),
        ({"variations": [{"seed": 1, "strength": 1.5}]}, "<= 1.0"),
        ({"variations": [{"seed": 2**70, "strength": 0.5}]}, "too many"),
    ],
)  # fmt: skip
def test_what_cannot_be_combined_is_refused(values, complaint):
    from pipelines.parameters import ImageParameters

    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.convert({"prompt": "a boat"} | values, ImageParameters)


def test_variations_are_written_as_seed_and_strength():
    assert parse_variation("7:0.2") == Variation(7, 0.2)
    assert str(Variation(7, 0.2)) == "7:0.2"
    for text in ("7", "7:", "x:0.2", "0:0.2", "7:2", "7:nan", "-1:0.2", f"{2**64}:0.5"):
        with pytest.raises(ValueError, match=r"needed|number|range"):
            parse_variation(text)


def test_a_recipe_holds_its_variation_for_other_tools_too():
    recipe = Recipe(prompt="a boat", seed=3, width=64, height=48, steps=4, variations=(Variation(7, 0.25),))
    assert "Variation seed: 7, Variation seed strength: 0.25" in recipe.to_parameters()
    assert Recipe.from_parameters(recipe.to_parameters()).variations == recipe.variations
    assert Recipe.from_json(recipe.to_json()) == recipe
