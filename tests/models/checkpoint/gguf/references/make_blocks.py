"""Writes blocks.npz: random blocks of every quantized type, and what the package `gguf` makes of them.

uv run --group weights python -m tests.models.checkpoint.gguf.references.make_blocks
"""

from pathlib import Path

import numpy as np

from models.checkpoint.gguf.types import TYPES
from tests.models.checkpoint.gguf.blocks import random_blocks

FILE = Path(__file__).with_name("blocks.npz")


def main() -> None:
    import gguf

    arrays = {}
    for type_ in TYPES.values():
        if type_.packing is not None:
            raw = random_blocks(type_, 512 // type_.values, seed=3)
            arrays[f"{type_.name}.raw"] = raw
            arrays[f"{type_.name}.values"] = gguf.dequantize(raw, gguf.GGMLQuantizationType[type_.name])
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()
