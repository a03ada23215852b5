"""Pairs of pictures and the words that turn the first into the second."""

import random
from dataclasses import dataclass, replace

from samples.training.scenes import (
    COLOURS,
    KINDS,
    PLACES,
    STYLES,
    Freedom,
    Picture,
    Placed,
    Shape,
    held_out,
    place,
    random_freedom,
    random_scene,
    random_shape,
    settle,
)
from samples.training.words import COLOUR_WORDS, KIND_WORDS, PLACE_WORDS, noun, with_article, written

RECOLOUR = (
    "make {it} {new}", "make {it} {new}", "turn {it} {new}", "change {it} to {new}", "paint {it} {new}",
    "change the colour of {it} to {new}", "change the color of {it} to {new}", "colour {it} {new}", "{it} should be {new}",
)  # fmt: skip
BACKGROUND = (
    "make the background {new}", "change the background to {new}", "change the background to {new}",
    "turn the background {new}", "put it on a {new} background", "use a {new} background", "set the background to {new}",
)  # fmt: skip
REMOVE = ("remove {it}", "remove {it}", "delete {it}", "take away {it}", "erase {it}", "get rid of {it}")
REPLACE = (
    "turn {it} into {new}", "replace {it} with {new}", "change {it} into {new}", "change {it} to {new}",
    "make {it} {new}", "swap {it} for {new}",
)  # fmt: skip
GROW = ("make {it} larger", "make {it} bigger", "enlarge {it}", "grow {it}")
SHRINK = ("make {it} smaller", "shrink {it}", "make {it} tiny")
OUTLINE = (
    "make {it} hollow",
    "make {it} outlined",
    "show only the outline of {it}",
    "only the outline of {it}",
)
FILL = ("fill {it}", "make {it} solid", "fill in {it}")
ADD = (
    "add {new} {where}",
    "add {new} {where}",
    "put {new} {where}",
    "draw {new} {where}",
    "also draw {new} {where}",
)
# How much larger or smaller a shape becomes, and where it then has to be.
FACTOR = 1.45


@dataclass(frozen=True)
class Edit:
    before: Picture
    words: str
    after: Picture
    kind: str


def random_edit(chance: random.Random, held: bool) -> Edit:
    """An edit of a scene that is, or is not, among those held out."""
    while True:
        scene = random_scene(chance)
        if not scene.shapes or held_out(scene) is not held:
            continue
        before = settle(scene, random_freedom(chance))
        if len({(shape.kind, shape.colour) for shape in before.shapes}) < len(before.shapes):
            continue
        kind = chance.choice(
            ("recolour", "recolour", "background", "remove", "replace", "resize", "style", "add")
        )
        edit = EDITS[kind](before, chance)
        if edit is not None:
            return Edit(before, written(edit[0], chance), edit[1], kind)


def _recolour(before: Picture, chance: random.Random) -> tuple[str, Picture]:
    at = chance.randrange(len(before.shapes))
    old = before.shapes[at]
    new = chance.choice([c for c in COLOURS if c not in (before.background, old.colour)])
    words = chance.choice(RECOLOUR).format(it=_it(before, at, chance), new=chance.choice(COLOUR_WORDS[new]))
    return words, _with(before, at, replace(old, colour=new))


def _background(before: Picture, chance: random.Random) -> tuple[str, Picture]:
    taken = {before.background, *(shape.colour for shape in before.shapes)}
    new = chance.choice([colour for colour in COLOURS if colour not in taken])
    words = chance.choice(BACKGROUND).format(new=chance.choice(COLOUR_WORDS[new]))
    return words, replace(before, background=new)


def _remove(before: Picture, chance: random.Random) -> tuple[str, Picture] | None:
    if len(before.shapes) == 1:
        return None
    at = chance.randrange(len(before.shapes))
    return chance.choice(REMOVE).format(it=_it(before, at, chance)), _with(before, at, None)


def _replace(before: Picture, chance: random.Random) -> tuple[str, Picture]:
    at = chance.randrange(len(before.shapes))
    old = before.shapes[at]
    new = chance.choice([kind for kind in KINDS if kind != old.kind])
    style = "solid" if new == "ring" else old.style
    words = chance.choice(REPLACE).format(
        it=_it(before, at, chance), new=with_article(chance.choice(KIND_WORDS[new]))
    )
    return words, _with(before, at, replace(old, kind=new, style=style))


def _resize(before: Picture, chance: random.Random) -> tuple[str, Picture] | None:
    at = chance.randrange(len(before.shapes))
    old = before.shapes[at]
    grow = old.radius * FACTOR <= (31, 26, 17)[len(before.shapes) - 1]
    if not grow and old.radius / FACTOR < 10:
        return None
    words = chance.choice(GROW if grow else SHRINK).format(it=_it(before, at, chance))
    radius = old.radius * FACTOR if grow else old.radius / FACTOR
    least, most = radius + 4, 124 - radius
    moved = replace(old, radius=radius, x=min(max(old.x, least), most), y=min(max(old.y, least), most))
    return words, _with(before, at, moved)


def _style(before: Picture, chance: random.Random) -> tuple[str, Picture] | None:
    at = chance.randrange(len(before.shapes))
    old = before.shapes[at]
    if old.kind == "ring":
        return None
    new = STYLES[1 - STYLES.index(old.style)]
    words = chance.choice(OUTLINE if new == "outlined" else FILL).format(it=_it(before, at, chance))
    return words, _with(before, at, replace(old, style=new))


def _add(before: Picture, chance: random.Random) -> tuple[str, Picture] | None:
    """A small shape, where there is room for it."""
    if len(before.shapes) > 2:
        return None
    added = random_shape(chance, before.background, open_ended=False)
    added = replace(added, size=None, style=None)
    places = list(PLACES)
    chance.shuffle(places)
    for where in places:
        # The exact place, so that the picture follows from the words.
        middle: Freedom = (0.5,) * 16
        new = place(added, where, middle, before.background)
        if all(_apart(new, old) for old in before.shapes):
            words = chance.choice(ADD).format(
                new=with_article(noun(added, chance)), where=chance.choice(PLACE_WORDS[where])
            )
            return words, replace(before, shapes=(*before.shapes, new))
    return None


EDITS = {
    "recolour": _recolour,
    "background": _background,
    "remove": _remove,
    "replace": _replace,
    "resize": _resize,
    "style": _style,
    "add": _add,
}


def _apart(a: Placed, b: Placed) -> bool:
    return max(abs(a.x - b.x), abs(a.y - b.y)) > a.radius + b.radius + 6


def _with(before: Picture, at: int, new: Placed | None) -> Picture:
    kept = (*before.shapes[:at], *((new,) if new else ()), *before.shapes[at + 1 :])
    return replace(before, shapes=kept)


def _it(before: Picture, at: int, chance: random.Random) -> str:
    """`the circle`, or more where that would not say which."""
    shape = before.shapes[at]
    alike = sum(other.kind == shape.kind for other in before.shapes) > 1
    coloured = alike or chance.random() < 0.35
    return "the " + noun(Shape(shape.kind, shape.colour if coloured else None), chance)
