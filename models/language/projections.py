"""The weights of a decoding step: layers that read the same made one, plain or quantized."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, TypeAlias

import mlx.core as mx
import mlx.nn as nn

from models import quantized_layers
from models.language.pieces import gated_half
from models.quantized_layers import QuantizedLinear

Weights: TypeAlias = mx.array | nn.Module  # of a plain layer, or a quantized layer itself
ARRAYS = ("weight", "scales", "biases")  # rows of each are outputs of the layer
QUANTIZED = (nn.QuantizedLinear, QuantizedLinear)
EMBEDDINGS = (nn.QuantizedEmbedding, quantized_layers.QuantizedEmbedding)


def alike(layers: Sequence[Any]) -> bool:
    """Whether they can be made one: what they are is known, and the same."""
    kinds = {_kind(layer) for layer in layers}
    return len(kinds) == 1 and None not in kinds


def _kind(layer: Any) -> tuple[Any, ...] | None:
    if type(layer) is nn.Linear:
        return ("bias" in layer,)
    if type(layer) in QUANTIZED:
        return ("bias" in layer, layer.group_size, layer.bits, layer.mode)
    return None


def of_vocabulary(layer: Any) -> bool:
    """Whether it can give the logits: a head of its own, or the embeddings."""
    if type(layer) in (nn.Linear, *QUANTIZED):
        return "bias" not in layer
    return type(layer) is nn.Embedding or type(layer) in EMBEDDINGS


def weights(layer: Any) -> Weights:
    plain = type(layer) in (nn.Linear, nn.Embedding)
    return layer.weight if plain else layer


def joined(layers: Sequence[Any]) -> Weights:
    """Those of several layers, which become views of them; their biases are not among them."""
    whole = {name: mx.concatenate([layer[name] for layer in layers]) for name in ARRAYS if name in layers[0]}
    mx.eval(whole)
    start = 0
    for layer in layers:
        end = start + layer.weight.shape[0]
        for name, array in whole.items():
            layer[name] = array[start:end]
        mx.eval([layer[name] for name in whole])
        start = end
    if "scales" not in whole:
        return whole["weight"]
    first = layers[0]
    how = {"group_size": first.group_size, "bits": first.bits, "mode": first.mode}
    one = QuantizedLinear(512, 8, bias=False, **how)  # of any size: its arrays are replaced
    one.update(whole)
    return one


def product(parts: ModuleType, x: mx.array, w: Weights, gated: bool = False) -> mx.array:
    """x W^T of [row, channel], as `parts` does it or, of a quantized layer, as all of those do."""
    if isinstance(w, mx.array):
        return parts.product(x, w, gated)
    y = quantized_layers.product(x, w)
    return gated_half(y) if gated else y
