"""What a picture shows, read from its pixels alone: background, and the shapes with their colours and places.

Pixels unlike the background form connected pieces; each piece is compared with every shape drawn at its size.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from samples.training.drawing import Pixels, coverage, extent
from samples.training.scenes import COLOURS, KINDS, PALETTE, Picture, Placed, Scene

Mask = NDArray[np.bool_]
# How unlike the background (a distance in RGB) a pixel of a shape is, and what is too small to be one.
UNLIKE = 48.0
SPECK = 24
BORDER = 3
LIKENESSES = [
    (kind, style)
    for kind in KINDS
    for style in ("solid", "outlined")
    if (kind, style) != ("ring", "outlined")
]
VALUES = np.array(list(PALETTE.values()), np.float32)


@dataclass(frozen=True)
class Verdict:
    """Which of the things that a prompt asks for a picture shows. None: the prompt does not ask for it."""

    background: bool
    count: bool
    kind: bool | None
    colour: bool | None
    place: bool | None

    @property
    def right(self) -> bool:
        return all(
            part is not False for part in (self.background, self.count, self.kind, self.colour, self.place)
        )


def classify(pixels: Pixels) -> Picture:
    values = pixels.astype(np.float32)
    background = _background(values)
    unlike = np.linalg.norm(values - np.array(PALETTE[background], np.float32), axis=-1)
    pieces = _pieces(unlike > UNLIKE)
    return Picture(background, tuple(_shape(values, unlike, piece) for piece in pieces))


def judge(pixels: Pixels, scene: Scene, background: str) -> Verdict:
    """Whether a picture shows a scene; in whichever order of the shapes fits best."""
    seen = classify(pixels)
    expected = scene.shapes
    if len(seen.shapes) != len(expected):
        return Verdict(seen.background == background, False, *([False] * 3 if expected else [None] * 3))
    best = max(_orders(list(seen.shapes)), key=lambda order: _fit(scene, order), default=[])
    kinds = [shape.kind == other.kind for shape, other in zip(expected, best, strict=True) if shape.kind]
    colours = [
        shape.colour == other.colour for shape, other in zip(expected, best, strict=True) if shape.colour
    ]
    return Verdict(
        seen.background == background,
        True,
        all(kinds) if kinds else None,
        all(colours) if colours else None,
        _placed(scene.layout, best) if scene.layout and expected else None,
    )


def same(seen: Picture, expected: Picture, reach: float = 8.0) -> bool:
    """Whether two pictures show the same shapes of the same colours, styles and sizes, at the same places."""
    if seen.background != expected.background or len(seen.shapes) != len(expected.shapes):
        return False
    return any(
        all(_alike(a, b, reach) for a, b in zip(order, expected.shapes, strict=True))
        for order in _orders(list(seen.shapes))
    )


def _alike(a: Placed, b: Placed, reach: float) -> bool:
    named = (a.kind, a.colour, a.style) == (b.kind, b.colour, b.style)
    return named and np.hypot(a.x - b.x, a.y - b.y) < reach and abs(a.radius / b.radius - 1) < 0.2


def _fit(scene: Scene, order: list[Placed]) -> tuple[int, bool]:
    pairs = list(zip(scene.shapes, order, strict=True))
    named = sum((a.kind in (None, b.kind)) + (a.colour in (None, b.colour)) for a, b in pairs)
    return named, scene.layout is None or _placed(scene.layout, order)


def _placed(layout: str, shapes: list[Placed]) -> bool:
    """A place on its own counts from the middle; shapes are in relation when their centres are."""
    if len(shapes) == 1:
        return _place(shapes[0].x) == _side(layout, "left", "right") and _place(shapes[0].y) == _side(
            layout, "top", "bottom"
        )
    along = [shape.x if layout in ("left", "right", "row") else shape.y for shape in shapes]
    across = [shape.y if layout in ("left", "right", "row") else shape.x for shape in shapes]
    rising = all(b - a > 10 for a, b in pairwise(along))
    falling = all(a - b > 10 for a, b in pairwise(along))
    level = max(across) - min(across) < abs(along[-1] - along[0])
    return level and (falling if layout in ("below", "right") else rising)


def _place(at: float) -> int:
    return -1 if at < 50 else 1 if at > 78 else 0


def _side(layout: str, before: str, after: str) -> int:
    words = layout.split()
    return (after in words) - (before in words)


def _orders(shapes: list[Placed]) -> list[list[Placed]]:
    if len(shapes) > 3:
        return [shapes]
    if len(shapes) < 2:
        return [shapes]
    return [
        [shape, *rest] for at, shape in enumerate(shapes) for rest in _orders(shapes[:at] + shapes[at + 1 :])
    ]


def _background(values: NDArray[np.float32]) -> str:
    edge = np.ones(values.shape[:2], bool)
    edge[BORDER:-BORDER, BORDER:-BORDER] = False
    return _nearest(np.median(values[edge], axis=0))


def _nearest(colour: NDArray[np.float32]) -> str:
    return COLOURS[int(np.argmin(((VALUES - colour) ** 2).sum(-1)))]


def _pieces(mask: Mask) -> list[Mask]:
    """Connected pieces that are no specks, diagonal neighbours included, from the top down."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        padded = np.pad(labels, 1)
        around = [
            padded[dy : dy + mask.shape[0], dx : dx + mask.shape[1]] for dy in range(3) for dx in range(3)
        ]
        spread = np.where(mask, np.max(around, axis=0), 0)
        # Each label is also the place of a pixel: what that one has learned is known to all who bear it.
        spread = np.where(mask, np.concatenate([[0], spread.ravel()])[spread], 0)
        if np.array_equal(spread, labels):
            break
        labels = spread
    numbers, sizes = np.unique(labels[mask], return_counts=True)
    return [labels == label for label, size in zip(numbers, sizes, strict=True) if size >= SPECK]


def _shape(values: NDArray[np.float32], unlike: NDArray[np.float32], piece: Mask) -> Placed:
    rows, columns = np.flatnonzero(piece.any(1)), np.flatnonzero(piece.any(0))
    box = float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
    # Pixels on an edge are mixtures with the background; the purest are those least like it.
    pure = piece & (unlike > 0.85 * np.quantile(unlike[piece], 0.95))
    colour = _nearest(np.median(values[pure], axis=0))
    y, x = np.mgrid[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32) + 0.5
    cut = piece[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scores = []
    for kind, style in LIKENESSES:
        at = _fitted(kind, box)
        like = coverage(kind, style, x - at[0], y - at[1], at[2]) > 0.35
        scores.append((float((like & cut).sum() / (like | cut).sum()), kind, style, *at))
    _, kind, style, cx, cy, radius = max(scores)
    return Placed(kind, colour, style, cx, cy, radius)


def _fitted(kind: str, box: tuple[float, float, float, float]) -> tuple[float, float, float]:
    """Centre and radius of a shape that fills a box."""
    left, top, right, bottom = extent(kind)
    radius = ((box[2] - box[0]) / (right - left) + (box[3] - box[1]) / (bottom - top)) / 2
    x = (box[0] + box[2]) / 2 - radius * (left + right) / 2
    y = (box[1] + box[3]) / 2 - radius * (top + bottom) / 2
    return x, y, radius
