"""What the sample model knows: scenes of up to three coloured shapes, as they are asked for and as they are drawn.

A `Scene` is what a prompt says, with None wherever it says nothing. `settle` turns it into placed shapes. What was left
open, and how far each shape lies from its exact place, is decided by FREE numbers between 0 and 1, the scene's
freedom: the same scene and freedom are always the same picture.
"""

import random
import zlib
from dataclasses import dataclass, replace

SIDE = 128
KINDS = ("circle", "square", "triangle", "star", "ring", "cross")
# In the order of the rainbow, so that a choice between neighbours is a choice between similar colours.
PALETTE = {
    "red": (225, 35, 35),
    "orange": (250, 130, 20),
    "yellow": (250, 215, 30),
    "green": (30, 150, 60),
    "cyan": (60, 205, 225),
    "blue": (35, 75, 220),
    "purple": (130, 40, 170),
    "pink": (250, 140, 190),
    "brown": (120, 70, 30),
    "black": (15, 15, 15),
    "grey": (128, 128, 128),
    "white": (255, 255, 255),
}
COLOURS = tuple(PALETTE)
SIZES = ("small", "medium", "large")
STYLES = ("solid", "outlined")
# Half the width of a shape in pixels, by how many there are.
RADII = {1: (14.0, 21.0, 29.0), 2: (13.0, 19.0, 25.0), 3: (11.0, 13.5, 16.0)}
PLACES = {
    "middle": (64, 64), "top": (64, 34), "bottom": (64, 94), "left": (34, 64), "right": (94, 64),
    "top left": (34, 34), "top right": (94, 34), "bottom left": (34, 94), "bottom right": (94, 94),
}  # fmt: skip
# The centres of two and three shapes, in the order in which a scene names them.
LAYOUTS = {
    2: {"above": ((64, 36), (64, 92)), "left": ((36, 64), (92, 64)),
        "below": ((64, 92), (64, 36)), "right": ((92, 64), (36, 64))},
    3: {"row": ((24, 64), (64, 64), (104, 64)), "column": ((64, 24), (64, 64), (64, 104))},
}  # fmt: skip
MARGIN = 5

# Which of a scene's free numbers decides what: five for each shape, then the layout.
X, Y, SIZE, COLOUR, KIND = range(5)
LAYOUT = 15
FREE = 16
Freedom = tuple[float, ...]


@dataclass(frozen=True)
class Shape:
    kind: str | None = None
    colour: str | None = None
    size: str | None = None
    style: str | None = None


@dataclass(frozen=True)
class Scene:
    """`layout` is a place for one shape, a relation of the first to the second for two, a row or column for three."""

    shapes: tuple[Shape, ...]
    background: str | None = None
    layout: str | None = None


@dataclass(frozen=True)
class Placed:
    kind: str
    colour: str
    style: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Picture:
    """A scene with nothing left open."""

    background: str
    shapes: tuple[Placed, ...]


def held_out(scene: Scene) -> bool:
    """One scene in twenty is never trained on."""
    return zlib.crc32(repr(scene).encode()) % 20 == 0


def background_of(scene: Scene) -> str:
    """White when nothing is said, or what shows all shapes."""
    if scene.background is not None:
        return scene.background
    taken = {shape.colour for shape in scene.shapes}
    return next(colour for colour in ("white", "black", "grey", "yellow") if colour not in taken)


def settle(scene: Scene, freedom: Freedom) -> Picture:
    background = background_of(scene)
    centres = _centres(scene, freedom)
    settled = []
    for at, (shape, centre) in enumerate(zip(scene.shapes, centres, strict=True)):
        free = freedom[5 * at : 5 * at + 5]
        colours = [colour for colour in COLOURS if colour != background]
        radius = RADII[len(centres)][SIZES.index(shape.size or "medium")] * (0.93 + 0.14 * free[SIZE])
        kind = shape.kind or _pick(KINDS, free[KIND])
        colour = shape.colour or _pick(colours, free[COLOUR])
        # A ring is an outline already.
        style = "outlined" if shape.style == "outlined" and kind != "ring" else "solid"
        x, y = _near(centre, radius, free, *_reach(scene))
        settled.append(Placed(kind, colour, style, x, y, radius))
    return Picture(background, tuple(settled))


def place(shape: Shape, where: str, freedom: Freedom, background: str) -> Placed:
    """One more shape, small enough to leave room for the others."""
    alone = settle(Scene((replace(shape, size="small"),), background, where), freedom)
    return alone.shapes[0]


def _centres(scene: Scene, freedom: Freedom) -> tuple[tuple[int, int], ...]:
    match len(scene.shapes):
        case 0:
            return ()
        case 1:
            return (PLACES[scene.layout or "middle"],)
        case count:
            layouts = LAYOUTS[count]
            named = scene.layout or _pick(tuple(layouts), freedom[LAYOUT])
            return layouts[named]


def _reach(scene: Scene) -> tuple[float, float]:
    """How far a shape may lie from its exact place, across and along."""
    match len(scene.shapes):
        case 1:
            return (5.0, 5.0) if scene.layout else (16.0, 16.0)
        case 2:
            upright = scene.layout in ("above", "below")
            return (8.0, 2.0) if upright else (2.0, 8.0) if scene.layout else (2.0, 2.0)
        case _:
            return (1.0, 1.0)


def _near(
    centre: tuple[int, int], radius: float, free: Freedom, across: float, along: float
) -> tuple[float, float]:
    least, most = radius + MARGIN, SIDE - radius - MARGIN
    x = centre[0] + across * (2 * free[X] - 1)
    y = centre[1] + along * (2 * free[Y] - 1)
    return min(max(x, least), most), min(max(y, least), most)


def _pick(choices: tuple[str, ...] | list[str], free: float) -> str:
    return choices[min(int(free * len(choices)), len(choices) - 1)]


def random_freedom(chance: random.Random) -> Freedom:
    return tuple(chance.random() for _ in range(FREE))


def random_shape(chance: random.Random, background: str | None, open_ended: bool = True) -> Shape:
    """A shape that is seen on its background; `open_ended` leaves some of it unsaid."""
    kind = chance.choice(KINDS)
    colour = chance.choice([colour for colour in COLOURS if colour != background])
    size = chance.choice(SIZES)
    style = "outlined" if kind != "ring" and chance.random() < 0.25 else "solid"
    if not open_ended:
        return Shape(kind, colour, size, style)
    return Shape(
        kind if chance.random() < 0.97 else None,
        colour if chance.random() < 0.88 else None,
        size if chance.random() < 0.4 else None,
        style if style == "outlined" or chance.random() < 0.08 else None,
    )


def random_scene(chance: random.Random) -> Scene:
    """Any scene, held out or not. Colours differ from the background, whether it is said or not."""
    background = chance.choice(COLOURS) if chance.random() < 0.6 else None
    count = chance.choices((0, 1, 2, 3), (1, 40, 42, 17))[0]
    if count == 0:
        return Scene((), background or chance.choice(COLOURS))
    if count > 1 and chance.random() < 0.12:
        shapes = (_one_of_many(chance, background),) * count
    else:
        shapes = tuple(random_shape(chance, background) for _ in range(count))
    layouts = tuple(PLACES) if count == 1 else ("above", "left") if count == 2 else tuple(LAYOUTS[3])
    # Two shapes stand in the order in which they are told: the other two relations are the words' matter.
    layout = chance.choice(layouts) if chance.random() < (0.5, 0.85, 0.7)[count - 1] else None
    return Scene(shapes, background, layout)


def _one_of_many(chance: random.Random, background: str | None) -> Shape:
    shape = random_shape(chance, background)
    return replace(shape, kind=shape.kind or chance.choice(KINDS))


def training_scene(chance: random.Random) -> Scene:
    return next(scene for scene in iter(lambda: random_scene(chance), None) if not held_out(scene))


def held_out_scene(chance: random.Random) -> Scene:
    return next(scene for scene in iter(lambda: random_scene(chance), None) if held_out(scene))
