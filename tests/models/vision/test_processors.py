"""Pictures and prompts as transformers' processors prepare them: sizes, resampling, numbers, order of patches, placeholders."""

import numpy as np
import pytest

from tests.models.vision.vision_cases import CASES, Size, Toy, picture
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


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", SIZES)
def test_pixels_equal_those_of_the_reference(name: str, size: Size, toys: dict[str, Toy]) -> None:
    expected = processors.image_processor(CASES[name])([picture(size)], return_tensors="np")["pixel_values"]
    vision = toys[name].vision
    actual = np.array(vision.processor.numbers(vision.look(picture(size))))  # type: ignore[attr-defined]
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
    expanded = vision.expand(prompt, [vision.look(image) for image in pictures])
    assert processor.tokenizer(expanded)["input_ids"] == expected
