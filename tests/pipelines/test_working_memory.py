"""What drawing is foretold to take on a processor, against what it takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from models.files import LocalModel
from models.layers.attention import on_cpu
from pipelines.base import ImageRequest, Plan
from pipelines.settings import Settings
from pipelines.working_memory import FLOOR, Dimensions, working_bytes
from samples.training.running import load
from tests.pipelines.families import pipeline_class

pytestmark = pytest.mark.skipif(not on_cpu(), reason="a GPU says itself that memory is short")
SHAPES = Path(__file__).parents[2] / "samples" / "shapes"
PICTURE = np.zeros((200, 300, 3), np.uint8)


def peak(pipeline: Any, request: ImageRequest) -> int:
    """Bytes that drawing holds beyond what was held before."""
    mx.clear_cache()
    before = mx.get_active_memory()
    most = 0
    for _ in pipeline.generate(request):
        most = max(most, mx.get_peak_memory())
    return most - before


@pytest.mark.parametrize(
    "name", ["klein", "klein base", "flux3 klein", "krea2 raw", "z-image-turbo", "flux dev", "qwen-image"]
)
@pytest.mark.parametrize("size", [(256, 320), (64, 64)])
def test_no_family_takes_more_than_is_foretold(
    toy: Callable[[str], LocalModel], name: str, size: tuple[int, int]
) -> None:
    pipeline = pipeline_class(name).load(toy(name), Settings(dtype="float32"))
    images = (PICTURE,) if "klein" in name else ()
    request = ImageRequest("a red circle", 3, width=size[0], height=size[1], steps=2, images=images)
    foretold = pipeline.working_bytes(request, pipeline.plan(request))
    assert foretold is not None
    assert peak(pipeline, request) < foretold


def test_the_samples_foretold_bytes_are_near_those_it_takes() -> None:
    pipeline = load(SHAPES)
    request = ImageRequest("a red circle", 3, width=384, height=384, steps=1)
    taken, foretold = peak(pipeline, request), pipeline.working_bytes(request, pipeline.plan(request))
    assert foretold is not None
    assert taken < foretold < 2 * taken + FLOOR


def test_the_largest_picture_of_the_sample_is_foretold_below_3_gb() -> None:
    pipeline, request = load(SHAPES), ImageRequest("x", 1, width=2048, height=2048)
    needed = pipeline.working_bytes(request, pipeline.plan(request))
    assert needed is not None
    assert 1.5e9 < needed < 2.6e9


KLEIN = Dimensions(width=3072, mlp=9216, prompt=512, multiple=16, channels=128)


def needed(count: int = 1, batch: int = 1, references: int = 0, side: int = 1024) -> int:
    plan = Plan(side, side, num_inference_steps=4, denoise_steps=4, guidance=None)
    request = ImageRequest("x", 1, n=count, images=(np.zeros((1024, 1024, 3), np.uint8),) * references)
    return working_bytes(KLEIN, request, plan, batch, 1_600_000_000, [(1024, 1024)] * references)


def test_size_references_guidance_and_the_number_of_pictures_all_count() -> None:
    alone = needed()
    assert alone < needed(count=16) < alone + 2e8, "they are drawn one after another"
    assert needed(side=2048) > 3 * alone
    assert needed(references=3) > 3 * alone
    assert needed(batch=2) > 1.8 * alone
