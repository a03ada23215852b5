"""Writes toys.json (the reference's names and shapes) and pictures.npz (what it draws) beside itself.

uv run --group reference python -m tests.pipelines.references.make_pictures
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from tests.pipelines import reference
from tests.pipelines.stored import STORED
from tests.pipelines.toys import REFERENCES, TOYS


def main() -> None:
    shapes = {
        name: {
            part: {key: list(value.shape) for key, value in reference.module(content).state_dict().items()}
            for part, content in toy.parts.items()
        }
        for name, toy in TOYS.items()
    }
    (REFERENCES / "toys.json").write_text(json.dumps(shapes, separators=(",", ":")) + "\n")
    pictures = {}
    for name, stored in STORED.items():
        with tempfile.TemporaryDirectory() as folder:
            pipeline, _ = reference.save(stored.toy, Path(folder))
            pictures[name] = np.stack(reference.pictures(pipeline, stored.request))
    np.savez_compressed(REFERENCES / "pictures.npz", **pictures)


if __name__ == "__main__":
    main()
