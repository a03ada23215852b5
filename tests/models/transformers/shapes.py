"""The tensors of the published checkpoints: their names and shapes as text, a line for all blocks alike, and as files
that claim their full size and hold nothing."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.models.transformers.families import FLUX, FLUX2, FLUX3, KREA2, QWEN_IMAGE, Z_IMAGE, Family
from tests.models.transformers.toys import REFERENCES

SHAPES = REFERENCES / "transformer_shapes.txt"
Shapes = dict[str, tuple[int, ...]]

KLEIN = {"in_channels": 128, "attention_head_dim": 128, "axes_dims_rope": (32,) * 4, "guidance_embeds": False}
DEV = {
    "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128, "num_attention_heads": 24,
    "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True, "axes_dims_rope": (16, 56, 56),
}  # fmt: skip
REAL: dict[str, tuple[Family, dict[str, Any]]] = {
    "FLUX.2 klein 4B": (
        FLUX2,
        {**KLEIN, "num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680},
    ),
    "FLUX.2 klein 9B": (
        FLUX2,
        {**KLEIN, "num_layers": 8, "num_single_layers": 24, "num_attention_heads": 32, "joint_attention_dim": 12288},
    ),
    "Z-Image": (
        Z_IMAGE,
        {"in_channels": 16, "dim": 3840, "n_layers": 30, "n_refiner_layers": 2, "n_heads": 30, "cap_feat_dim": 2560,
         "axes_dims": (32, 48, 48)},
    ),
    "FLUX.1 schnell": (FLUX, {**DEV, "guidance_embeds": False}),
    "FLUX.1 dev": (FLUX, DEV),
    "Qwen-Image": (QWEN_IMAGE, {"in_channels": 64, "out_channels": 16, "num_layers": 60}),
    "FLUX.3 klein": (FLUX3, {"flow_map": True}),
    "Krea 2": (KREA2, {"in_channels": 64}),
}  # fmt: skip


def collapsed(model: str, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Lines `model | name with {count} for the block's number | shape`."""
    counts: dict[tuple[str, tuple[int, ...]], int] = {}
    for name, shape in shapes.items():
        key = (re.sub(r"^(\w*(?:blocks|layers|refiner))\.\d+\.", r"\1.{}.", name), tuple(shape))
        counts[key] = counts.get(key, 0) + 1
    return [
        f"{model} | {name.replace('{}', '{' + str(count) + '}')} | {' '.join(map(str, shape))}"
        for (name, shape), count in counts.items()
    ]


def stored_shapes(model: str) -> Shapes:
    """The way back from `collapsed`."""
    shapes: Shapes = {}
    for line in SHAPES.read_text().splitlines():
        owner, name, sizes = line.split(" | ")
        if owner != model:
            continue
        shape = tuple(int(size) for size in sizes.split())
        count = re.search(r"\{(\d+)\}", name)
        for number in range(int(count[1]) if count else 1):
            shapes[re.sub(r"\{\d+\}", str(number), name)] = shape
    return shapes


def hollow_checkpoint(path: Path, shapes: Shapes) -> None:
    """A bfloat16 safetensors file of the full size in which nothing is written but the header: the disk has a hole."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, size = end, 2
        for length in shape:
            size *= length
        end = start + size
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
