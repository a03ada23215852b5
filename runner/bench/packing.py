"""How long packing a picture into a file takes, on the processor."""

import time
from collections.abc import Iterator

import numpy as np

from pipelines.packing import pack
from runner.bench.records import Record

FORMATS = ("png", "jpeg", "webp")


def measure(width: int, height: int, rounds: int) -> Iterator[Record]:
    """A picture with gradients and noise, neither trivial nor incompressible."""
    rows, columns = np.mgrid[0:height, 0:width]
    shades = np.stack([rows / height, columns / width, (rows + columns) / (height + width)], -1) * 255
    pixels = (shades + np.random.default_rng(0).normal(0, 4, shades.shape)).clip(0, 255).astype(np.uint8)
    for kind in FORMATS:
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
