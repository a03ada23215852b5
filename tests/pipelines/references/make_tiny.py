"""Writes beside itself tiny.json (the reference's names and shapes) and tiny.npz (what its pipelines draw with them).

uv run --group reference python -m tests.pipelines.references.make_tiny
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from tests.pipelines import reference
from tests.pipelines.tiny_toys import REQUESTS, TINY
from tests.pipelines.toys import REFERENCES


def main() -> None:
    modules = {name: reference.module(part) for name, part in TINY.items()}
    shapes = {
        name: {key: list(value.shape) for key, value in module.state_dict().items()}
        for name, module in modules.items()
    }
    (REFERENCES / "tiny.json").write_text(json.dumps(shapes, separators=(",", ":")) + "\n")
    pictures = {}
    for name, request in REQUESTS.items():
        with tempfile.TemporaryDirectory() as folder:
            pipeline, _ = reference.save(name, Path(folder))
            pipeline.vae = modules[name]
            pictures[name] = np.stack(reference.pictures(pipeline, request))
    np.savez_compressed(REFERENCES / "tiny.npz", **pictures)


if __name__ == "__main__":
    main()
