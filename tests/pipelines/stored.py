"""Requests whose pictures by the reference are stored, so that plain test runs compare pictures too."""

from dataclasses import dataclass

import numpy as np

from pipelines.base import ImageRequest
from tests.pipelines.toys import REFERENCES


@dataclass(frozen=True)
class Stored:
    toy: str
    request: ImageRequest


STORED = {
    "klein": Stored("klein", ImageRequest("a red circle", 7, width=80, height=48, steps=3)),
    "klein, two": Stored("klein", ImageRequest("два яблока", 5, width=32, height=48, steps=2, count=2)),
    "klein base, guided": Stored(
        "klein base",
        ImageRequest("a red circle", 11, "blurry", width=40, height=28, steps=4, guidance=3.0),
    ),
}


def stored_pictures(name: str) -> np.ndarray:
    with np.load(REFERENCES / "pictures.npz") as pictures:
        return pictures[name]
