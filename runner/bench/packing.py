"""How long files of a picture take to pack, which no GPU has a part in."""

import time
from collections.abc import Iterator

import numpy as np

from pipelines.packing import pack
from runner.bench.records import Record

KINDS = ("png", "jpeg", "webp")


def measure(width: int, height: int, rounds: int) -> Iterator[Record]:
    """Of a picture with gradients and noise, so that it is neither trivial nor incompressible."""
    rows, columns = np.mgrid[0:height, 0:width]
    shades = np.stack([rows / height, columns / width, (rows + columns) / (height + width)], -1) * 255
    pixels = (shades + np.random.default_rng(0).normal(0, 4, shades.shape)).clip(0, 255).astype(np.uint8)
    for kind in KINDS:
        seconds = []
        for _ in range(rounds + 1):
            began = time.perf_counter()
            pack(pixels, kind)
            seconds.append(time.perf_counter() - began)
        yield Record(
            model="any",
            engine=kind,
            part="pack",
            unit="s",
            values=tuple(seconds[1:]),
            width=width,
            height=height,
        )
