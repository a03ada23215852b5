"""How pictures are compared, and what a pipeline's events come to."""

from collections.abc import Iterable

import numpy as np

from pipelines.base import Event, Picture, Report, Step


def painted(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A picture with shapes, gradients and some grain."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(x / (3 + 5 * c) + c) * np.cos(y / (4 + 3 * c) - seed) for c in range(3)]
    grain = random.normal(0, 12, (height, width, 3))
    return np.clip(128 + 90 * np.stack(waves, axis=-1) + grain, 0, 255).astype(np.uint8)


def mask_of(width: int, height: int) -> np.ndarray:
    """An ellipse, and a corner."""
    y, x = np.mgrid[:height, :width]
    ellipse = ((x - 0.55 * width) / (0.3 * width)) ** 2 + ((y - 0.4 * height) / (0.33 * height)) ** 2 < 1
    return ellipse | ((x < 0.2 * width) & (y > 0.8 * height))


def drawn(events: Iterable[Event]) -> list[np.ndarray]:
    return [event.pixels for event in events if isinstance(event, Picture)]


def report(events: Iterable[Event]) -> Report:
    return next(event for event in events if isinstance(event, Report))


def steps(events: Iterable[Event]) -> list[Step]:
    return [event for event in events if isinstance(event, Step)]


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    """At most one level apart on 99.9% of the values; and no empty picture, which would prove nothing."""
    assert ours.shape == theirs.shape
    assert theirs.std() > 10
    apart = np.abs(ours.astype(int) - theirs.astype(int))
    assert (apart <= 1).mean() >= 0.999, f"{(apart > 1).mean():.2%} differ, by {apart.max()} at most"
