"""A component in numbers, by its safetensors headers: parameters, bytes, how they are stored. Loads nothing."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.checkpoint.quantization_formats import FLOAT_FORMATS, READABLE_AFFINE
from models.checkpoint.safetensors import TensorInfo


@dataclass(frozen=True)
class TensorSummary:
    """A component's tensors in sum. `stored` counts bytes by how they are stored: `BF16`, `4-bit (groups of 64)`."""

    parameters: int
    bytes: int
    stored: Mapping[str, int]


def summarize(
    tensors: Mapping[str, TensorInfo], quantization: Mapping[str, Any] | None = None
) -> TensorSummary:
    """Sum up the tensors of a component; `quantization` is the entry of its config.json, as MLX writes it."""
    parameters = 0
    stored: Counter[str] = Counter()
    for name, info in tensors.items():
        layer = name.removesuffix(".weight")
        scales = tensors.get(f"{layer}.scales") if layer != name else None
        if info.dtype == "U32" and scales is not None:
            own = (quantization or {}).get(layer)  # a layer may be quantized in a way of its own
            config = own if isinstance(own, dict) else quantization or {}
            bits, format = _packing(info, scales, f"{layer}.biases" in tensors, config)
            parameters += math.prod(info.shape) * 32 // bits
            stored[format] += info.nbytes
        elif not _is_part(name, tensors):
            parameters += math.prod(info.shape)
            stored[info.dtype] += info.nbytes
    return TensorSummary(
        parameters, sum(info.nbytes for info in tensors.values()), dict(stored.most_common())
    )


def has_packed(tensors: Mapping[str, TensorInfo]) -> bool:
    """Whether any layer is quantized."""
    return any(_is_part(name, tensors) for name in tensors if name.endswith(".scales"))


def unpacked_bytes(tensors: Mapping[str, TensorInfo], quantization: Mapping[str, Any] | None = None) -> int:
    """All of a component in float32, quantized layers unpacked."""
    return 4 * summarize(tensors, quantization).parameters


def _is_part(name: str, tensors: Mapping[str, TensorInfo]) -> bool:
    """Whether a tensor is a scale or a zero point of a quantized layer, which are not parameters."""
    base, _, last = name.rpartition(".")
    weight = tensors.get(f"{base}.weight")
    return last in ("scales", "biases", "global_scale") and weight is not None and weight.dtype == "U32"


def _packing(
    weight: TensorInfo, scales: TensorInfo, has_biases: bool, config: Mapping[str, Any]
) -> tuple[int, str]:
    """Bits per value, and the name of the format. Packed columns are inputs * bits / 32, scale columns inputs / group."""
    columns, groups = (shape[-1] if shape else 0 for shape in (weight.shape, scales.shape))
    if has_biases:
        fits = [(bits, group) for bits, group in READABLE_AFFINE if columns * 32 == groups * group * bits]
        declared = (config.get("bits"), config.get("group_size"))
        bits, group = declared if declared in fits else fits[0] if fits else (4, 64)
        return bits, f"{bits}-bit (groups of {group})"
    names = [
        name
        for name, format in FLOAT_FORMATS.items()
        if columns * 32 == groups * format.group_size * format.bits
    ]
    name = str(config.get("mode")) if config.get("mode") in names else (names[0] if names else "nvfp4")
    return FLOAT_FORMATS[name].bits, name
