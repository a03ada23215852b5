"""Pictures and prompts as transformers' processors prepare them: sizes, resampling, numbers, order of patches, placeholders."""

import numpy as np
import pytest

from models.vision.idefics3 import learned_positions
from tests.models.vision.toy import Toy
from tests.models.vision.vision_cases import CASES, Size, picture
from tests.optional import needed

processors = needed(
    "torch", "compares with transformers' processors, which need the group reference"
) and needed("tests.models.vision.processors", "made for these tests")
pytestmark = pytest.mark.reference

SIZES: tuple[Size, ...] = (
    (37, 61),
    (90, 33),
    (25, 26),
    (12, 12),
    (200, 3),
    (3, 150),
    (301, 257),
    (64, 64),
    (1, 1),
)


# Where transformers makes a line of no pixels, there is nothing to compare with.
NONE = {"mistral3": (200, 3), "mistral3-other": (200, 3)}
PICTURES = [(name, size) for name in CASES for size in SIZES if NONE.get(name) != size]


@pytest.mark.parametrize(("name", "size"), PICTURES)
def test_pixels_equal_those_of_the_reference(name: str, size: Size, toys: dict[str, Toy]) -> None:
    expected = processors.image_processor(CASES[name])([picture(size)], return_tensors="np")["pixel_values"]
    vision = toys[name].vision
    actual = np.array(vision.processor.numbers(vision.look(picture(size))))  # type: ignore[attr-defined]
    expected = expected[0] if expected.ndim == 5 else expected  # of the first text
    assert actual.shape == expected.shape
    assert np.array_equal(actual, expected)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("sizes", [(), SIZES[:1], SIZES[:3]])
def test_prompts_equal_those_of_the_reference(
    name: str, sizes: tuple[Size, ...], toys: dict[str, Toy]
) -> None:
    vision, processor = toys[name].vision, processors.processor(CASES[name])
    pictures = [picture(size) for size in sizes]
    prompt = "a " + "".join(f"{vision.marker} b " for _ in sizes) + "c"
    expected = processor(text=[prompt], images=pictures or None)["input_ids"][0]
    expected = [int(token) for token in expected]
    expanded = vision.expand(prompt, [vision.look(image) for image in pictures])
    assert processor.tokenizer(expanded)["input_ids"] == expected


@pytest.mark.parametrize("learned", [1, 2, 14, 26, 27, 32])
def test_learned_positions_round_as_those_of_the_reference(learned: int) -> None:
    torch = processors.importlib.import_module("torch")
    for side in range(1, 70):
        begins = torch.arange(1 / learned, 1.0, 1 / learned)
        places = torch.arange(side, dtype=torch.float32) * (1.0 / torch.tensor(side))
        near = torch.bucketize(torch.clamp(places, max=1.0 - 1e-6), begins, right=True)
        expected = (near[:, None] * learned + near).flatten().numpy()
        assert np.array_equal(learned_positions(side, learned), expected)
