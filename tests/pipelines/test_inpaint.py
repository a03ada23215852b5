"""Masks: what is drawn anew is the reference's, and everything else stays as it was, bit for bit."""

import numpy as np
import pytest
from PIL import Image

from pipelines.base import ImageRequest, PipelineError
from pipelines.inpaint import Canvas, feathered, margins
from pipelines.planning import Defaults, plan
from tests.pipelines.families import pipeline_class
from tests.pipelines.pictures import assert_same, drawn, mask_of, painted

MEGAPIXEL = Defaults(steps=4, guidance=None, side=1024, size_multiple=16, max_references=10)
SMALL, STEPS = (64, 48), 2


def request(size=SMALL, **fields):
    fields = {"images": (painted(*size),), "mask": mask_of(*size), "steps": STEPS, **fields}
    return ImageRequest("a red circle", 4, **fields)


def masks(width, height, *boxes):
    mask = np.zeros((height, width), np.bool_)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "size", "more"),
    [
        ("klein", (64, 48), {"strength": 0.5, "n": 2}),
        ("klein base", (44, 60), {"guidance": 2.0}),
        ("qwen-image", (44, 60), {"guidance": 2.0, "strength": 0.8, "n": 2}),
        ("z-image-turbo", (48, 64), {"strength": 0.6}),
        ("z-image", (40, 32), {"guidance": 1.5, "negative_prompt": "blurry", "cfg_truncation": 0.6, "n": 2}),
        ("flux schnell", (64, 48), {"strength": 0.3}),
        ("flux dev", (36, 48), {"guidance": 3.0, "negative_prompt": "blurry", "true_cfg_scale": 2.0, "n": 2}),
    ],
)
def test_what_a_mask_shows_is_the_references(saved, name, size, more):
    from tests.pipelines import reference

    theirs, local = saved(name)
    masked = request(size, **more | {"steps": 4})
    ours = drawn(pipeline_class(name).load(local).generate(masked))
    for mine, expected in zip(ours, reference.inpainted(theirs, masked), strict=True):
        assert_same(mine, expected)
        assert (mine[masked.mask] != masked.images[0][masked.mask]).mean() > 0.9


@pytest.mark.parametrize("name", ["klein", "z-image-turbo", "flux schnell"])
def test_the_rest_of_a_picture_of_any_size_stays_bit_for_bit(toy, name):
    """Not a multiple of the model's, so what is drawn is enlarged; more on two sides; soft around the mask."""
    picture, mask = painted(61, 53), masks(61, 53, (20, 40, 10, 30))
    masked = request(images=(picture,), mask=mask, outpaint="0 19 11 0", feather=5, previews=1, n=2)
    made = drawn(pipeline_class(name).load(toy(name)).generate(masked))
    far = ~masks(61, 53, (15, 45, 5, 35), (48, 53, 0, 61), (0, 53, 56, 61))
    for one in made:
        assert one.shape == (64, 80, 3)
        np.testing.assert_array_equal(one[:53, :61][far], picture[far])
        assert (one[:53, :61][mask] != picture[mask]).mean() > 0.9
        assert one[53:].std() > 10
    assert (made[0] != made[1]).any()


def test_a_stroke_thinner_than_a_latent_is_drawn(toy):
    """It stands where the reference's samples of the mask are not."""
    picture, mask = painted(64, 48), masks(64, 48, (17, 18, 0, 64))
    (made,) = drawn(
        pipeline_class("flux schnell")
        .load(toy("flux schnell"))
        .generate(request(mask=mask, images=(picture,)))
    )
    kept = drawn(
        pipeline_class("flux schnell")
        .load(toy("flux schnell"))
        .generate(request(mask=masks(64, 48, (40, 48, 0, 8)), images=(picture,)))
    )[0]
    assert (made[17] != picture[17]).mean() > 0.9
    assert (kept[:16] == picture[:16]).all()


@pytest.mark.parametrize(
    ("fields", "drawn_size", "finished"),
    [
        ({"size": (61, 53)}, (48, 48), (61, 53)),
        ({"size": (3000, 2000)}, (1248, 832), (3000, 2000)),
        ({"size": (3000, 2000), "width": 3000, "height": 0}, (1248, 832), (3000, 2000)),
        ({"size": (3000, 2000), "width": 1500, "height": 1000}, (1488, 992), (1488, 992)),
        ({"size": (64, 48), "outpaint": "16 40"}, (144, 80), (144, 80)),
    ],
)
def test_a_picture_keeps_its_size_unless_another_is_requested(fields, drawn_size, finished):
    size = fields.pop("size")
    blank = np.broadcast_to(np.uint8(0), (size[1], size[0], 3))
    made = plan(request(images=(blank,), mask=np.broadcast_to(np.True_, size[::-1]), **fields), MEGAPIXEL)
    assert (made.width, made.height) == drawn_size
    assert made.size == finished
    assert made.reduced == (size,)
    assert made.strength == 1.0


def test_a_picture_in_another_size_is_pasted_in_that_size():
    masked = request((80, 60), width=64, height=48)
    canvas = Canvas.of(masked, plan(masked, MEGAPIXEL))
    small = np.asarray(Image.fromarray(masked.images[0]).resize((64, 48), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(canvas.picture, small)
    made = canvas.paste(np.zeros((48, 64, 3), np.uint8))
    np.testing.assert_array_equal(made[~canvas.mask], small[~canvas.mask])
    assert not made[canvas.mask].any()


@pytest.mark.parametrize("width", [1, 2, 5, 16])
def test_a_feather_fades_within_its_width_and_leaves_the_mask_whole(width):
    mask = masks(90, 70, (30, 40, 50, 90), (0, 3, 0, 3))
    weights = feathered(mask, width)
    assert (weights[mask] == 255).all()
    far = masks(90, 70, (30 - width, 40 + width, 50 - width, 90), (0, 3 + width, 0, 3 + width))
    assert not weights[~far].any()
    fading = weights[35, 50 - width : 51].astype(int)
    assert (np.diff(fading) >= 0).all()
    assert (weights[30:40, 89] == 255).all()  # the picture's edge is none of the mask's


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, (0, 0, 0, 0)),
        ("", (0, 0, 0, 0)),
        ("128", (128, 128, 128, 128)),
        ("0 64", (0, 64, 0, 64)),
        ("1,2,3", (1, 2, 3, 2)),
        (" 1 2, 3  4 ", (1, 2, 3, 4)),
    ],
)
def test_margins_are_written_as_in_css(text, expected):
    assert margins(text) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"images": ()}, "mask: it needs a picture in images"),
        ({"images": (), "mask": None, "outpaint": "8"}, "outpaint: it needs a picture in images"),
        ({"mask": mask_of(48, 64)}, "mask: it is 48 x 64, and the first picture is 64 x 48; both need the same size"),
        ({"mask": np.zeros((48, 64), np.bool_)}, "mask: it is black everywhere, so nothing would change"),
        ({"outpaint": "a lot"}, "outpaint: 'a lot' is not allowed; one to four numbers of pixels are needed"),
        ({"outpaint": "1 2 3 4 5"}, "outpaint: '1 2 3 4 5' is not allowed"),
        ({"outpaint": "0 4000"}, "mask: the finished picture would be 8064 x 48; at most 4096 pixels"),
        ({"feather": 300}, "feather: 300 is out of range; 0 to 256 is allowed"),
        ({"strength": 0.0}, "strength: 0.0 leaves none of 2 steps"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_mask_is_said(fields, message):
    with pytest.raises(PipelineError, match="^" + message.replace("(", r"\(")):
        plan(request(**fields), MEGAPIXEL)


def test_a_feather_without_a_mask_has_no_effect():
    made = plan(ImageRequest("a red circle", 1, feather=4), MEGAPIXEL)
    assert made.warnings == ("feather has no effect without a mask",)
