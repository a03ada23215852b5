"""Layout boxes: where in a picture something is to be, for models that are told so in their prompt."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct

GRID = 1000  # the coordinates that models know
LONGEST_BOX_TEXT = 8192

Side = Annotated[float, Meta(ge=0, le=1)]
Sides = tuple[Side, Side, Side, Side]


class Box(Struct, frozen=True, omit_defaults=True):
    """Something and its place: `box` in the picture that is drawn, `image_box` in the input picture `image`, from which it is
    taken. Without an `image` it is new; without a `box` it is removed."""

    text: Annotated[str, Meta(max_length=LONGEST_BOX_TEXT, description="what it is")]
    box: (
        Annotated[Sides, Meta(description="top, left, bottom and right, from 0 to 1 of the picture")] | None
    ) = None
    id: Annotated[
        str,
        Meta(max_length=64, pattern=r"^([A-Za-z][A-Za-z0-9_]*)?$", description="<id> in the prompt means it"),
    ] = ""
    image: Annotated[int, Meta(ge=0, le=9, description="the number of an input picture, from 0")] | None = (
        None
    )
    image_box: Annotated[Sides, Meta(description="its place there")] | None = None

    def __str__(self) -> str:
        return f"{self.text}@{','.join(f'{side:g}' for side in self.box or self.image_box or ())}"


def parse_box(text: str) -> Box:
    """TEXT@TOP,LEFT,BOTTOM,RIGHT."""
    what, at, sides = text.rpartition("@")
    try:
        top, left, bottom, right = (float(side) for side in sides.split(","))
    except ValueError:
        at = ""
    if not at:
        raise ValueError("TEXT@TOP,LEFT,BOTTOM,RIGHT is needed, such as cat@0.5,0.1,0.9,0.4")
    parsed = Box(what, (top, left, bottom, right))
    check_boxes((parsed,))
    return parsed


def check_boxes(boxes: Sequence[Box]) -> None:
    """A ValueError says what is wrong with one."""
    for index, one in enumerate(boxes):
        place = f"boxes[{index}]"
        if one.box is None and one.image_box is None:
            raise ValueError(f"{place}: it has neither box nor image_box; one is needed")
        if (one.image is None) != (one.image_box is None):
            raise ValueError(f"{place}: image and image_box belong together; give both or neither")
        for name, sides in (("box", one.box), ("image_box", one.image_box)):
            if sides is None:
                continue
            top, left, bottom, right = sides
            if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
                raise ValueError(
                    f"{place}.{name}: {list(sides)} is not allowed; top, left, bottom and right from 0 to 1 are needed, top above "
                    "bottom and left before right"
                )
    ids = [one.id for one in boxes if one.id]
    if len(set(ids)) < len(ids):
        raise ValueError("boxes: two have the same id; ids must differ")


def with_boxes(prompt: str, boxes: Sequence[Box], edits: bool) -> str:
    """The prompt with its boxes behind it, as a table in JSON. `edits`: there are input pictures."""
    rows = [_row(one, f"obj_{index}", edits) for index, one in enumerate(boxes, start=1)]
    return f"{prompt.strip()} {json.dumps(rows, ensure_ascii=False)}"


def _row(box: Box, usual: str, edits: bool) -> dict[str, Any]:
    name = {"id": box.id or usual}
    if not edits:
        return name | {"bbox": _on_grid(box.box), "desc": box.text}
    where = "target" if box.image is None else f"ref_image_{box.image}"
    sides = {"src_bbox": _on_grid(box.image_box), "tgt_bbox": _on_grid(box.box)}
    return name | {"from": where, **sides, "desc": box.text}


def _on_grid(sides: Sides | None) -> list[int] | None:
    return None if sides is None else [round(side * GRID) for side in sides]
