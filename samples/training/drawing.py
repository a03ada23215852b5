"""Pictures of scenes: signed distances to outlines, turned into smooth edges."""

import math

import numpy as np
from numpy.typing import NDArray

from samples.training.scenes import PALETTE, SIDE, Picture

Pixels = NDArray[np.uint8]  # [height, width, 3]
Plane = NDArray[np.float32]
# A ring's middle line and half its width; the arms of a cross; the inner corners of a star.
RING, RING_HALF = 0.74, 0.25
ARM, INNER = 0.36, 0.45
STAR = 1.12


def _corners() -> dict[str, list[tuple[float, float]]]:
    turns = [math.pi * (at / 5 - 0.5) for at in range(10)]
    reach = [STAR if at % 2 == 0 else STAR * INNER for at in range(10)]
    half = 0.88
    return {
        "square": [(-half, -half), (half, -half), (half, half), (-half, half)],
        "triangle": [(0.0, -0.95), (1.0, 0.8), (-1.0, 0.8)],
        "star": [
            (far * math.cos(turn), far * math.sin(turn) + 0.08)
            for turn, far in zip(turns, reach, strict=True)
        ],
        "cross": [
            (-ARM, -1), (ARM, -1), (ARM, -ARM), (1, -ARM), (1, ARM), (ARM, ARM),
            (ARM, 1), (-ARM, 1), (-ARM, ARM), (-1, ARM), (-1, -ARM), (-ARM, -ARM),
        ],
    }  # fmt: skip


CORNERS = _corners()


def extent(kind: str) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a shape of radius 1 around its centre."""
    if kind in CORNERS:
        x, y = zip(*CORNERS[kind], strict=True)
        return min(x), min(y), max(x), max(y)
    far = RING + RING_HALF if kind == "ring" else 1.0
    return -far, -far, far, far


def distance(kind: str, x: Plane, y: Plane, radius: float) -> Plane:
    """From points around a shape's centre to its outline, in pixels; negative inside."""
    if kind == "circle":
        return np.hypot(x, y) - radius
    if kind == "ring":
        return np.abs(np.hypot(x, y) - RING * radius) - RING_HALF * radius
    return _to_polygon([(radius * px, radius * py) for px, py in CORNERS[kind]], x, y)


def coverage(kind: str, style: str, x: Plane, y: Plane, radius: float) -> Plane:
    """How much of each pixel a shape covers, 0 to 1."""
    away = distance(kind, x, y, radius)
    if style == "outlined":
        half = stroke(radius) / 2
        away = np.abs(away + half) - half
    return np.clip(0.5 - away, 0, 1)


def stroke(radius: float) -> float:
    return 2.0 + 0.09 * radius


def draw(picture: Picture) -> Pixels:
    canvas = np.empty((SIDE, SIDE, 3), np.float32)
    canvas[:] = PALETTE[picture.background]
    for shape in picture.shapes:
        far = shape.radius * 1.25 + 2
        left, top = max(int(shape.x - far), 0), max(int(shape.y - far), 0)
        right, bottom = min(int(shape.x + far) + 1, SIDE), min(int(shape.y + far) + 1, SIDE)
        y, x = np.mgrid[top:bottom, left:right].astype(np.float32) + 0.5
        cover = coverage(shape.kind, shape.style, x - shape.x, y - shape.y, shape.radius)[..., None]
        box = canvas[top:bottom, left:right]
        box += cover * (np.array(PALETTE[shape.colour], np.float32) - box)
    return (canvas + 0.5).astype(np.uint8)


def _to_polygon(corners: list[tuple[float, float]], x: Plane, y: Plane) -> Plane:
    """The distance to the nearest edge, signed by how often a ray crosses the edges."""
    nearest = np.full(x.shape, np.inf, np.float32)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        ex, ey = bx - ax, by - ay
        along = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0, 1)
        nearest = np.minimum(nearest, (x - ax - along * ex) ** 2 + (y - ay - along * ey) ** 2)
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) * ex / ey)
    return np.where(inside, -1, 1) * np.sqrt(nearest)
