"""Unpacks quantized layers to float32, for the CPU, where there is memory for it.

MLX's quantized products are scalar code there, many times slower than BLAS on weights eight times the size.
"""

import math
from collections.abc import Mapping
from typing import cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from models.layers.quantized import QuantizedEmbedding, QuantizedLinear, ScaledLinear

# Quantized classes, without their subclasses, and the plain class of each.
PLAIN: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.QuantizedLinear: nn.Linear,
    nn.QuantizedEmbedding: nn.Embedding,
    QuantizedLinear: nn.Linear,
    ScaledLinear: nn.Linear,
    QuantizedEmbedding: nn.Embedding,
}


def unpack(
    module: nn.Module, plain: Mapping[type[nn.Module], type[nn.Module]] = PLAIN, above: int = 0
) -> list[str]:
    """Dequantize a network's layers of more than `above` bits in place, lazily, with scales in float32; returns their
    paths."""
    packed = [(path, layer) for path, layer in _packed(module, plain) if layer.bits > above]
    layers = [(path, _unpacked(layer, plain[type(layer)])) for path, layer in packed]
    if layers:
        module.update_modules(tree_unflatten(layers))
    return [path for path, _ in layers]


def unpacked_bytes(module: nn.Module, plain: Mapping[type[nn.Module], type[nn.Module]] = PLAIN) -> int:
    """Bytes of all weights when unpacked to float32."""
    layers = [layer for _, layer in _packed(module, plain)]
    values = sum(math.prod(_shape(layer)) for layer in layers)
    inside = {id(array) for layer in layers for array in layer.values() if isinstance(array, mx.array)}
    parameters = cast(list[tuple[str, mx.array]], tree_flatten(module.parameters()))
    rest = (array for _, array in parameters if id(array) not in inside)
    biases = sum(layer["bias"].size for layer in layers if "bias" in layer)
    return 4 * (values + biases + sum(array.size for array in rest))


def _packed(
    module: nn.Module, plain: Mapping[type[nn.Module], type[nn.Module]]
) -> list[tuple[str, nn.Module]]:
    """Without the experts whose global scale (nvfp4) MLX's product applies."""
    return [
        (path, layer)
        for path, layer in module.named_modules()
        if type(layer) in plain and (isinstance(layer, ScaledLinear) or layer.get("global_scale") is None)
    ]


def _shape(layer: nn.Module) -> tuple[int, ...]:
    *rows, columns = layer["weight"].shape
    return (*rows, columns * 32 // layer.bits)


def _unpacked(layer: nn.Module, kind: type[nn.Module]) -> nn.Module:
    scales, biases = layer["scales"], layer.get("biases")
    if biases is not None:
        scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
    weight = mx.dequantize(
        layer["weight"], scales, biases, layer.group_size, layer.bits, layer.mode, dtype=mx.float32
    )
    if isinstance(layer, ScaledLinear):
        weight = weight * layer["global_scale"].astype(mx.float32)[:, None]
    plain = kind.__new__(kind)
    nn.Module.__init__(plain)  # not the class's own, which would make random weights
    plain["weight"] = weight
    if "bias" in layer:
        plain["bias"] = layer["bias"].astype(mx.float32)
    return plain


def unpacked_note(layers: int, size: int) -> str:
    return (
        f"{layers} quantized layers are computed in float32 ({size / 1e9:.2f} GB of weights): a processor is many times "
        "slower with packed weights"
    )


def still_packed(needed: int, room: int) -> str:
    return (
        f"quantized weights stay packed, which is many times slower on a processor: in float32 they would need "
        f"{needed / 1e9:.2f} GB, and {room / 1e9:.2f} GB are free for them"
    )
