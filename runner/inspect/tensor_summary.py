"""What a component's safetensors headers add up to: parameters, bytes, how they are stored. Loads nothing."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.checkpoint.safetensors import TensorInfo

# How MLX packs: bits a value and values a scale. Of what fits, the first is meant.
AFFINE = [(bits, group) for group in (64, 32, 128) for bits in (4, 8, 2, 3, 5, 6)]
FLOATS = {"nvfp4": (4, 16), "mxfp4": (4, 32), "mxfp8": (8, 32)}


@dataclass(frozen=True)
class Contents:
    """A component's tensors in sum. `stored` counts bytes by how they are stored: `BF16`, `4-bit (groups of 64)`."""

    parameters: int
    bytes: int
    stored: Mapping[str, int]


def contents(tensors: Mapping[str, TensorInfo], stated: Mapping[str, Any] | None = None) -> Contents:
    """Sum up the tensors of a component; `stated` is the `quantization` of its config.json, as MLX writes it."""
    parameters = 0
    stored: Counter[str] = Counter()
    for name, info in tensors.items():
        scales = tensors.get(f"{name.removesuffix('weight')}scales") if name.endswith(".weight") else None
        if info.dtype == "U32" and scales is not None:
            biases = f"{name.removesuffix('weight')}biases" in tensors
            own = (stated or {}).get(
                name.removesuffix(".weight")
            )  # a layer may be quantized in a way of its own
            bits, way = _packing(info, scales, biases, own if isinstance(own, dict) else stated or {})
            parameters += math.prod(info.shape) * 32 // bits
            stored[way] += info.nbytes
        elif not _is_part(name, tensors):
            parameters += math.prod(info.shape)
            stored[info.dtype] += info.nbytes
    return Contents(parameters, sum(info.nbytes for info in tensors.values()), dict(stored.most_common()))


def has_packed(tensors: Mapping[str, TensorInfo]) -> bool:
    """Whether any layer is quantized."""
    return any(_is_part(name, tensors) for name in tensors if name.endswith(".scales"))


def unpacked_bytes(tensors: Mapping[str, TensorInfo], stated: Mapping[str, Any] | None = None) -> int:
    """All of a component in float32, quantized layers unpacked."""
    return 4 * contents(tensors, stated).parameters


def _is_part(name: str, tensors: Mapping[str, TensorInfo]) -> bool:
    """Scales and zero points say how to read other values; they are no parameters."""
    base, _, last = name.rpartition(".")
    weight = tensors.get(f"{base}.weight")
    return last in ("scales", "biases", "global_scale") and weight is not None and weight.dtype == "U32"


def _packing(
    weight: TensorInfo, scales: TensorInfo, biases: bool, stated: Mapping[str, Any]
) -> tuple[int, str]:
    """Bits a value, and how to call it. Packed columns are inputs * bits / 32, scale columns inputs / group."""
    columns, groups = (shape[-1] if shape else 0 for shape in (weight.shape, scales.shape))
    fits = [(bits, group) for bits, group in AFFINE if columns * 32 == groups * group * bits]
    said = (stated.get("bits"), stated.get("group_size"))
    if biases:
        bits, group = said if said in fits else fits[0] if fits else (4, 64)
        return bits, f"{bits}-bit (groups of {group})"
    ways = [way for way, (bits, group) in FLOATS.items() if columns * 32 == groups * group * bits]
    way = str(stated.get("mode")) if stated.get("mode") in ways else (ways[0] if ways else "nvfp4")
    return FLOATS[way][0], way
