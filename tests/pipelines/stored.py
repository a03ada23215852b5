"""Requests whose pictures by the reference are stored, so that plain test runs compare pictures too."""

from dataclasses import dataclass

import numpy as np

from pipelines.base import ImageRequest
from tests.pipelines.pictures import mask_of, painted
from tests.pipelines.toys import REFERENCES


@dataclass(frozen=True)
class Stored:
    toy: str
    request: ImageRequest


STORED = {
    "klein": Stored("klein", ImageRequest("a red circle", 7, width=80, height=48, steps=3)),
    "klein, two": Stored("klein", ImageRequest("два яблока", 5, width=32, height=48, steps=2, n=2)),
    "klein base, guided": Stored(
        "klein base",
        ImageRequest("a red circle", 11, "blurry", width=40, height=28, steps=4, guidance=3.0),
    ),
    "z-image-turbo": Stored("z-image-turbo", ImageRequest("a red circle", 7, width=80, height=48, steps=3)),
    "z-image, guided": Stored(
        "z-image", ImageRequest("два яблока", 9, "blurry", width=28, height=40, steps=3, guidance=2.0)
    ),
    "flux schnell": Stored("flux schnell", ImageRequest("l'aube", 7, width=80, height=48, steps=3)),
    "flux dev": Stored(
        "flux dev", ImageRequest("a red circle", 3, width=40, height=28, steps=3, guidance=4.0)
    ),
    "flux dev, guided": Stored(
        "flux dev",
        ImageRequest("a red circle", 3, "blurry", width=28, height=28, steps=2, guidance=2.0, n=2),
    ),
    "klein, edited": Stored(
        "klein", ImageRequest("make it blue", 6, steps=2, images=(painted(66, 75), painted(90, 64, seed=1)))
    ),
    "z-image-turbo, from a picture": Stored(
        "z-image-turbo",
        ImageRequest(
            "a red circle", 2, width=48, height=32, steps=4, images=(painted(48, 32),), strength=0.5
        ),
    ),
    "flux dev, from a picture": Stored(
        "flux dev",
        ImageRequest(
            "a red circle", 2, width=32, height=28, steps=4, images=(painted(40, 36),), strength=0.7
        ),
    ),
    "klein, with a mask": Stored(
        "klein",
        ImageRequest(
            "a red circle", 3, steps=2, images=(painted(64, 48), painted(90, 64, seed=1)), mask=mask_of(64, 48)
        ),
    ),
    "z-image, with a mask": Stored(
        "z-image",
        ImageRequest(
            "a red circle", 3, "blurry", steps=4, guidance=1.5, images=(painted(40, 32),), mask=mask_of(40, 32), strength=0.7
        ),
    ),
    "flux schnell, with a mask": Stored(
        "flux schnell",
        ImageRequest("a red circle", 3, steps=3, images=(painted(48, 64),), mask=mask_of(48, 64), n=2),
    ),
    "klein kv, edited": Stored(
        "klein kv",
        ImageRequest("make it blue", 6, steps=3, images=(painted(66, 75), painted(90, 64, seed=1)), n=2),
    ),
    "krea2 turbo": Stored("krea2 turbo", ImageRequest("два яблока", 7, width=80, height=48, steps=3, n=2)),
    "krea2 raw, guided": Stored(
        "krea2 raw", ImageRequest("a red circle", 9, "blurry, " * 30, width=48, height=32, steps=2, guidance=2.5)
    ),
    "flux3 klein": Stored("flux3 klein", ImageRequest("два яблока", 7, width=80, height=48, steps=3, n=2)),
    "flux3 klein, edited": Stored(
        "flux3 klein", ImageRequest("make it blue", 6, steps=2, images=(painted(66, 75),))
    ),
    "flux3 klein base, guided": Stored(
        "flux3 klein base",
        ImageRequest(
            "a red circle", 6, "blurry, " * 30, steps=2, guidance=3.0, images=(painted(66, 75), painted(90, 64, seed=1))
        ),
    ),
    "flux kontext, edited": Stored(
        "flux kontext",
        ImageRequest("make it blue", 6, width=36, height=28, steps=3, guidance=2.5, images=(painted(90, 66),)),
    ),
    "flux control": Stored(
        "flux control",
        ImageRequest("a red circle", 6, width=36, height=28, steps=3, guidance=10.0, images=(painted(72, 64),), n=2),
    ),
    "flux fill": Stored(
        "flux fill",
        ImageRequest(
            "a red circle", 6, steps=3, guidance=30.0, images=(painted(48, 36),), mask=mask_of(48, 36), n=2
        ),
    ),
    "qwen-image": Stored("qwen-image", ImageRequest("два яблока 🍎", 7, width=36, height=28, steps=3, n=2)),
    "qwen-image, from a picture": Stored(
        "qwen-image",
        ImageRequest(
            "a red circle", 2, "", width=40, height=32, steps=5, guidance=2.0, images=(painted(40, 32),), strength=0.6
        ),
    ),
    "qwen-image, with a mask": Stored(
        "qwen-image",
        ImageRequest("a red circle", 3, "blurry, " * 9, steps=3, guidance=3.0, images=(painted(48, 36),), mask=mask_of(48, 36)),
    ),
    "qwen-image-edit": Stored(
        "qwen-image-edit", ImageRequest("make it blue", 6, steps=2, guidance=2.0, images=(painted(90, 66),))
    ),
    "qwen-image-edit, with a mask": Stored(
        "qwen-image-edit",
        ImageRequest("make it blue", 6, "", steps=2, images=(painted(64, 64),), mask=mask_of(64, 64)),
    ),
    "qwen-image-edit-2509, two": Stored(
        "qwen-image-edit-2509",
        ImageRequest(
            "два яблока", 6, width=36, height=28, steps=2, images=(painted(90, 66), painted(64, 75, seed=1)), n=2
        ),
    ),
    "qwen-image-edit-2511, two": Stored(
        "qwen-image-edit-2511",
        ImageRequest("make it blue", 6, width=28, height=28, steps=2, images=(painted(90, 66), painted(64, 75, seed=1))),
    ),
}  # fmt: skip


def stored_pictures(name: str) -> np.ndarray:
    with np.load(REFERENCES / "pictures.npz") as pictures:
        return pictures[name]
