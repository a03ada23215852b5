"""Writes transformer_toys.json, transformer_toys.npz and transformer_shapes.txt from diffusers' own classes:

uv run --group reference python -m tests.models.references.make_transformers
"""

import json

import diffusers
import numpy as np
import torch

from tests.models.transformers.families import TIMES
from tests.models.transformers.shapes import REAL, SHAPES, collapsed
from tests.models.transformers.toys import REFERENCES, TOYS, draw


def main() -> None:
    shapes, outputs = {}, {}
    for name, toy in TOYS.items():
        model = getattr(diffusers, toy.family.reference)(**toy.config).eval()
        weights = {
            key: torch.tensor(draw(key, tuple(value.shape), toy.family.norms))
            for key, value in model.state_dict().items()
        }
        model.load_state_dict(weights)
        with torch.no_grad():
            outputs[name] = toy.family.theirs(model, toy.inputs(), TIMES[1]).numpy()
        shapes[name] = {key: list(value.shape) for key, value in weights.items()}
    (REFERENCES / "transformer_toys.json").write_text(json.dumps(shapes, separators=(",", ":")) + "\n")
    np.savez_compressed(REFERENCES / "transformer_toys.npz", **outputs)
    SHAPES.write_text("\n".join(line for name in REAL for line in collapsed(name, real(name))) + "\n")


def real(name: str) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a network of real size, which is never allocated."""
    family, config = REAL[name]
    with torch.device("meta"):
        model = getattr(diffusers, family.reference)(**config)
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


if __name__ == "__main__":
    main()
