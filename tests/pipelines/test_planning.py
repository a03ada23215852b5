"""What a request comes to, and what is refused, before any work."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from pipelines.base import ImageRequest, PipelineError
from pipelines.images import to_reference, to_start
from pipelines.picture_files import PictureFile
from pipelines.planning import Defaults, plan, preview_steps, sample_side

STARTS = Defaults(steps=8, guidance=None, side=1024, size_multiple=16)
EDITS = Defaults(steps=4, guidance=4.0, side=512, size_multiple=16, max_references=10)


def request(**fields):
    return ImageRequest("a red circle", 1, **fields)


def picture(width, height):
    return np.zeros((height, width, 3), np.uint8)


def test_a_bare_request_gets_the_models_own_numbers():
    made = plan(request(), EDITS)
    assert (made.width, made.height, made.denoise_steps, made.guidance, made.strength) == (
        512,
        512,
        4,
        4.0,
        None,
    )


def test_no_steps_mean_the_models_own():
    assert plan(request(steps=0), STARTS).denoise_steps == 8


@pytest.mark.parametrize(
    ("size", "drawn"), [((272, 144), (272, 144)), ((287, 159), (272, 144)), ((16, 4096), (16, 4096))]
)
def test_sizes_are_cut_to_the_multiple(size, drawn):
    made = plan(request(width=size[0], height=size[1]), STARTS)
    assert (made.width, made.height) == drawn


@pytest.mark.parametrize(
    ("images", "sides", "drawn"),
    [
        ([(75, 93)], (None, None), (64, 80)),
        ([(3000, 1500)], (None, None), (1440, 720)),
        ([(75, 93), (640, 640)], (None, None), (64, 80)),
        ([(3000, 1500)], (320, None), (320, 720)),
        ([(75, 93)], (256, 128), (256, 128)),
    ],
)
def test_without_a_size_the_first_picture_gives_it(images, sides, drawn):
    pictures = tuple(picture(*size) for size in images)
    made = plan(request(images=pictures, width=sides[0], height=sides[1]), EDITS)
    assert (made.width, made.height) == drawn


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 4112}, r"width: 4112 is out of range; 16 to 4096"),
        ({"height": 15}, r"height: 15 is out of range; 16 to 4096"),
        ({"width": 4096, "height": 1040}, r"4096 x 1040 is too large; at most 4 megapixels"),
        ({"steps": 1001}, r"steps: 1001 is out of range; 0 to 1000"),
        ({"steps": -1}, r"steps: -1"),
        ({"guidance": math.nan}, r"guidance: nan is out of range; 0 to 100"),
        ({"guidance": -1.0}, r"guidance: -1.0"),
        ({"n": 0}, r"n: 0 is out of range; 1 to 16"),
        ({"previews": -1}, r"previews: -1"),
        ({"strength": 0.5}, r"strength: it needs a picture in images"),
        ({"strength": 1.5, "images": (picture(64, 64),)}, r"strength: 1.5 is out of range; 0 to 1"),
        ({"strength": 0.0, "images": (picture(64, 64),)}, r"strength: 0.0 leaves none of 8 steps"),
        ({"images": (picture(64, 64),) * 2}, r"images: 2 were given; this model takes at most 1"),
        ({"images": (picture(6500, 100),)}, r"images\[0\]: .*64 to 1"),
        ({"negative_prompt": "\ud800"}, r"negative_prompt: .*half a character"),
        ({"cfg_truncation": 2.0}, r"cfg_truncation: 2.0"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_by_name(settings, said):
    with pytest.raises(PipelineError, match=said):
        plan(request(**settings), STARTS)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([(64, 64)] * 11, r"images: 11 were given; this model takes at most 10"),
        ([(64, 64), (63, 64)], r"images\[1\]: .*at least 64 pixels"),
        ([(640, 70)], r"images\[0\]: .*8 to 1"),
    ],
)
def test_pictures_that_cannot_be_looked_at_are_refused(images, said):
    with pytest.raises(PipelineError, match=said):
        plan(request(images=tuple(picture(*size) for size in images)), EDITS)


def test_a_picture_to_start_from_may_be_smaller_than_one_to_look_at():
    assert plan(request(images=(picture(40, 33),), strength=0.5, steps=4), EDITS).denoise_steps == 2


def test_a_model_that_cannot_edit_starts_from_the_picture():
    made = plan(request(images=(picture(64, 64),), steps=10), STARTS)
    assert (made.strength, made.denoise_steps, made.num_inference_steps) == (0.6, 6, 10)


def test_the_least_strength_does_one_step():
    assert plan(request(images=(picture(64, 64),), strength=0.01), STARTS).denoise_steps == 1


@pytest.mark.parametrize(
    ("steps", "previews", "shown"),
    [(4, 0, set()), (4, 1, {2}), (9, 2, {3, 6}), (4, 3, {1, 2, 3}), (4, 99, {1, 2, 3}), (1, 5, set())],
)
def test_previews_are_spread_evenly(steps, previews, shown):
    assert preview_steps(steps, previews) == shown


@pytest.mark.parametrize(
    ("transformer", "vae", "side"),
    [({}, {}, 1024), ({}, {"sample_size": 512}, 512), ({"sample_size": 96}, {"sample_size": 512}, 768),
     ({"sample_size": None}, {}, 1024), ({"sample_size": 9999}, {}, 2048)],
)  # fmt: skip
def test_the_models_own_size_comes_from_its_files(transformer, vae, side):
    assert sample_side(transformer, vae, 8) == side


@pytest.mark.parametrize(
    ("defaults", "sizes", "reduced"),
    [
        (STARTS, {}, [(1440, 720), (1440, 720)]),
        (EDITS, {}, [(1448, 724), (75, 93)]),
        (EDITS, {"strength": 0.5, "width": 320, "height": 640}, [(320, 640), (75, 93)]),
        (EDITS, {"strength": 0.5, "width": 4096, "height": 1024}, [(4096, 1024), (75, 93)]),
    ],
)
def test_pictures_are_reduced_to_what_is_looked_at_and_never_enlarged(defaults, sizes, reduced):
    pictures = (picture(3000, 1500), picture(75, 93))[: max(defaults.max_references, 1)]
    made = plan(request(images=pictures, **sizes), defaults)
    assert list(made.reduced) == reduced[: len(pictures)]
    ((width, height),) = plan(request(images=(picture(75, 93),), **sizes), defaults).reduced
    assert width * height <= 75 * 93


@pytest.mark.parametrize("size", [(3000, 1500), (8008, 1001), (1025, 1024), (75, 93)])
def test_a_reduced_picture_gives_what_the_whole_gives(size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG", compress_level=1)
    file, whole = PictureFile(out.getvalue()), Image.fromarray(noise)
    for strength in (None, 0.5):
        made = plan(request(images=(noise,), strength=strength), EDITS)
        small = Image.fromarray(file.pixels(made.reduced[0]))
        if strength is None:
            np.testing.assert_array_equal(to_reference(small), to_reference(whole))
        else:
            drawn = made.width, made.height
            np.testing.assert_array_equal(to_start(small, *drawn), to_start(whole, *drawn))
