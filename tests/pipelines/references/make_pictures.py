"""Writes beside itself toys.json (the reference's names and shapes), tokenizers, and pictures.npz (what it draws).

uv run --group reference python -m tests.pipelines.references.make_pictures
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from tests.models.tokenizers import toy_tokenizers
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
    for kind in (toy_tokenizers.qwen, toy_tokenizers.qwen_vl, toy_tokenizers.clip, toy_tokenizers.t5):
        folder = REFERENCES / "tokenizers" / kind.__name__
        if not folder.exists():  # new ones would change every picture
            for path in kind(folder).glob("*.json"):
                path.write_text(json.dumps(json.loads(path.read_text()), separators=(",", ":")) + "\n")
    (REFERENCES / "toys.json").write_text(json.dumps(shapes, separators=(",", ":")) + "\n")
    pictures = {}
    for name, stored in STORED.items():
        with tempfile.TemporaryDirectory() as folder:
            pipeline, _ = reference.save(stored.toy, Path(folder))
            pictures[name] = np.stack(reference.drawn(pipeline, stored.request))
    np.savez_compressed(REFERENCES / "pictures.npz", **pictures)


if __name__ == "__main__":
    main()
