"""Layout boxes: as the reference writes them behind a prompt, and what is wrong with some."""

import json

import numpy as np
import pytest
from msgspec import ValidationError, convert

from pipelines.base import ImageRequest, PipelineError
from pipelines.boxes import Box, parse_box, with_boxes
from pipelines.flux3 import Flux3Klein
from pipelines.parameters import ImageParameters
from pipelines.recipe import Recipe
from tests.pipelines.pictures import drawn, painted

CAT = Box("a grey cat", (0.5, 0.1, 0.9, 0.4), "cat_1")
BOXES = (CAT, Box("eine Лампа", (0.0, 0.2004, 1.0, 0.9996)))
MOVED = (
    Box("the cup", (0.1, 0.1, 0.3, 0.3), "cup_1", image=1, image_box=(0.2, 0.4, 0.6, 0.8)),
    Box("the van", None, "van_1", image=0, image_box=(0.25, 0.5, 0.75, 1.0)),
    Box("a dog", (0.6, 0.6, 0.9, 0.9)),
)


def test_boxes_stand_behind_the_prompt_as_a_table():
    caption, _, table = with_boxes(" A room with <cat_1>. ", BOXES, edits=False).partition(" [")
    assert caption == "A room with <cat_1>."
    assert json.loads("[" + table) == [
        {"id": "cat_1", "bbox": [500, 100, 900, 400], "desc": "a grey cat"},
        {"id": "obj_2", "bbox": [0, 200, 1000, 1000], "desc": "eine Лампа"},
    ]


@pytest.mark.reference
@pytest.mark.parametrize(("boxes", "edits"), [(BOXES, False), (BOXES, True), (MOVED, True)])
def test_the_reference_puts_a_users_boxes_into_a_prompt_so(boxes, edits):
    """There a language model writes the prompt, and the user's boxes are put back into it."""
    pytest.importorskip("diffusers")
    from diffusers.modular_pipelines.flux3 import prompt_upsampler as reference

    rows = []
    for box in boxes:
        row = {"id": box.id, "desc": box.text}
        if edits:
            row |= {"from": "target" if box.image is None else f"ref_image_{box.image}"}
            row |= {"src_bbox": box.image_box, "tgt_bbox": box.box}
        else:
            row |= {"bbox": box.box}
        rows.append(row)
    expected = reference.reconcile_boxes("Move <cup_1> [there].", reference.boxes_to_canvas(rows))
    assert with_boxes("Move <cup_1> [there].", boxes, edits) == expected


def test_boxes_are_read_on_the_wire_and_kept_in_recipes():
    sent = {"prompt": "x", "boxes": [{"text": "a cat", "box": [0.5, 0.1, 0.9, 0.4], "id": "cat_1"}]}
    boxes = convert(sent, ImageParameters).boxes
    assert boxes == (Box("a cat", (0.5, 0.1, 0.9, 0.4), "cat_1"),)
    recipe = Recipe(prompt="x", seed=1, width=64, height=64, steps=1, boxes=boxes)
    assert Recipe.from_json(recipe.to_json()).boxes == boxes


@pytest.mark.parametrize(
    "box",
    [{"text": "a", "box": [0, 0, 2, 1]}, {"text": "a", "box": [0, 0, 1]}, {"box": [0, 0, 1, 1]}, {"text": "a", "id": "<x>"}, "cat"],
)  # fmt: skip
def test_what_is_not_a_box_is_refused_on_the_wire(box):
    with pytest.raises(ValidationError, match=r"boxes\[0\]|boxes\[\.\.\.\]"):
        convert({"prompt": "x", "boxes": [box]}, ImageParameters)


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        ((Box("a", (0.5, 0.1, 0.4, 0.4)),), r"boxes\[0\]\.box: \[0.5, 0.1, 0.4, 0.4\] is not allowed"),
        ((Box("a", (0.1, float("nan"), 0.4, 0.4)),), r"boxes\[0\]\.box"),
        ((Box("a"),), "neither box nor image_box"),
        ((CAT, Box("a", (0.0, 0.0, 1.0, 1.0), image=0)), r"boxes\[1\]: image and image_box"),
        ((CAT, CAT), "two have the same id"),
        (MOVED, r"boxes\[0\].image: 1 is not one of the 1 pictures"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_box_is_said(toy, boxes, said):
    pipeline = Flux3Klein.load(toy("flux3 klein"))
    with pytest.raises(PipelineError, match=said):
        pipeline.plan(ImageRequest("x", 1, boxes=boxes, images=(painted(66, 75),)))


def test_boxes_change_the_picture_and_other_models_warn_of_them(toy):
    pipeline = Flux3Klein.load(toy("flux3 klein"))
    request = ImageRequest("a room", 3, width=32, height=32, steps=1)
    boxed = ImageRequest("a room", 3, width=32, height=32, steps=1, boxes=BOXES)
    written = ImageRequest(with_boxes("a room", BOXES, False), 3, width=32, height=32, steps=1)
    without, with_them, as_text = (drawn(pipeline.generate(one))[0] for one in (request, boxed, written))
    assert not np.array_equal(without, with_them)
    assert np.array_equal(with_them, as_text)
    assert "boxes" in pipeline.capabilities.supported_parameters


def test_a_box_is_written_in_one_word():
    assert parse_box("a cat@home@0.5,0.1,0.9,0.4") == Box("a cat@home", (0.5, 0.1, 0.9, 0.4))
    for text in ("cat", "cat@1,2", "cat@a,b,c,d", "cat@0.9,0,0.1,1"):
        with pytest.raises(ValueError, match=r"needed"):
            parse_box(text)
