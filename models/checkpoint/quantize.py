"""Quantization: which layers are quantized, and how quantized layers are recognized in a checkpoint.

Quantized: the Linear layers inside the blocks (attention, feed-forward, FLUX.1's modulation in every block), which hold
nearly all bytes. Not quantized, because they are small and affect the picture most: norms, embeddings and embedders (of
tokens, patches, time, guidance), layers named modulation, everything after the last block, convolutions, and layers whose
input does not divide into groups.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map_with_path

from models.checkpoint.quantization_formats import FLOAT_FORMATS, FORMATS
from models.layers.quantized import QuantizedLinear, ScaledLinear

Mode = Literal["affine", "mxfp4", "mxfp8", "nvfp4"]
# Words in a layer's path, and endings of the top-level layers before the first block and after the last one.
KEPT_WORDS = frozenset({"embed", "embeds", "embedder", "embedding", "embeddings", "modulation"})
KEPT_ENDS = ("img_in", "txt_in", "proj_out", "norm_out", "final_layer")


class QuantizationError(ValueError):
    """A quantization that does not exist or does not fit the weights."""


@dataclass(frozen=True)
class Quantization:
    bits: int
    group_size: int
    mode: Mode = "affine"

    @classmethod
    def parse(cls, text: str | int) -> "Quantization":
        """A value of `--quantize`: 3, 4, 5, 6, 8, mxfp4, mxfp8 or nvfp4."""
        word = str(text).strip().lower()
        if word not in FORMATS:
            raise QuantizationError(
                f"quantization {text!r} is unknown; one of {', '.join(FORMATS)} is needed"
            )
        mode = word if word in FLOAT_FORMATS else "affine"
        return cls(FORMATS[word].bits, FORMATS[word].group_size, mode)  # type: ignore[arg-type]

    @classmethod
    def of(cls, weight: mx.array, scales: mx.array, biases: mx.array | None, inputs: int) -> "Quantization":
        """From the shapes of a quantized layer with `inputs` features; files need not state it."""
        bits, spare_bits = divmod(weight.shape[-1] * 32, inputs)
        group_size, spare = divmod(inputs, scales.shape[-1])
        if spare or spare_bits:
            raise QuantizationError(
                f"weight {weight.shape} and scales {scales.shape} do not fit {inputs} inputs"
            )
        if biases is not None:
            return cls(bits, group_size)
        for mode, shape in FLOAT_FORMATS.items():
            if (shape.bits, shape.group_size) == (bits, group_size):
                return cls(bits, group_size, mode)  # type: ignore[arg-type]
        raise QuantizationError(
            f"{bits} bits in groups of {group_size} without biases is not a known quantization"
        )

    def apply(self, layer: nn.Module, scaled: bool = False) -> nn.Module:
        params: dict[str, Any] = {"group_size": self.group_size, "bits": self.bits, "mode": self.mode}
        if not isinstance(layer, nn.Linear):
            return layer.to_quantized(**params)
        quantized: nn.Module = (ScaledLinear if scaled else QuantizedLinear).from_linear(layer, **params)
        return quantized

    def quantize(self, weight: mx.array) -> dict[str, mx.array]:
        """The parameters of a quantized layer: "weight", "scales", and "biases" if the mode has them."""
        parts = mx.quantize(weight, group_size=self.group_size, bits=self.bits, mode=self.mode)
        return dict(zip(("weight", "scales", "biases"), parts, strict=False))

    def dequantize(self, weight: mx.array, scales: mx.array, biases: mx.array | None) -> mx.array:
        return mx.dequantize(
            weight, scales, biases, group_size=self.group_size, bits=self.bits, mode=self.mode
        )


def quantizable(path: str, layer: nn.Module, group_size: int) -> bool:
    """Whether this layer is quantized, by the rule in the module's docstring."""
    if not isinstance(layer, nn.Linear):
        return False
    if KEPT_WORDS.intersection(re.split(r"[._]", path)) or path.split(".")[0].endswith(KEPT_ENDS):
        return False
    return bool(layer.weight.shape[-1] % group_size == 0)


def quantize(module: nn.Module, quantization: Quantization) -> list[str]:
    """Quantize a loaded module in place, lazily; returns the names of the quantized layers."""
    group_size = quantization.group_size
    names = [path for path, layer in module.named_modules() if quantizable(path, layer, group_size)]
    replace_layers(module, dict.fromkeys(names, quantization))
    return names


def replace_layers(module: nn.Module, plan: Mapping[str, Quantization], scaled: Collection[str] = ()) -> None:
    """Quantize exactly the layers in `plan`, each as it says; those in `scaled` have a factor per row."""

    def convert(path: str, layer: nn.Module) -> nn.Module:
        return plan[path].apply(layer, path in scaled) if path in plan else layer

    leaves = tree_map_with_path(convert, module.leaf_modules(), is_leaf=nn.Module.is_module)
    module.update_modules(leaves)
