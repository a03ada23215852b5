"""The weights of a decoding step: layers that read the same made one, plain or quantized."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, TypeAlias

import mlx.core as mx
import mlx.nn as nn

from models.language.decode.matmul import RowsAllToSharded, RowsEmbedding, RowsLinear, RowsShardedToAll

Weights: TypeAlias = mx.array | nn.Module  # of a plain layer, or a quantized layer itself
ARRAYS = ("weight", "scales", "biases")  # rows of each are outputs of the layer
# By whose outputs are parts of a whole, and those that give a part of each output, which is to be summed over all devices.
PLAIN = (nn.Linear, nn.AllToShardedLinear, nn.ShardedToAllLinear)
QUANTIZED = (
    nn.QuantizedLinear,
    RowsLinear,
    nn.QuantizedAllToShardedLinear,
    RowsAllToSharded,
    nn.QuantizedShardedToAllLinear,
    RowsShardedToAll,
)
SUMMED = (nn.ShardedToAllLinear, nn.QuantizedShardedToAllLinear, RowsShardedToAll)
EMBEDDINGS = (nn.QuantizedEmbedding, RowsEmbedding)


def alike(layers: Sequence[Any]) -> bool:
    """Whether they can be made one: what they are is known, and the same."""
    kinds = {_kind(layer) for layer in layers}
    return len(kinds) == 1 and None not in kinds


def _kind(layer: Any) -> tuple[Any, ...] | None:
    how = ("bias" in layer, type(layer) in SUMMED)
    if type(layer) in PLAIN:
        return how
    if type(layer) in QUANTIZED:
        return (*how, layer.group_size, layer.bits, layer.mode)
    return None


def of_vocabulary(layer: Any) -> bool:
    """Whether it can give the logits: a head of its own, or the embeddings."""
    if type(layer) in (*PLAIN, *QUANTIZED):
        return "bias" not in layer
    return type(layer) is nn.Embedding or type(layer) in EMBEDDINGS


def weights(layer: Any) -> Weights:
    plain = type(layer) in (*PLAIN, nn.Embedding)
    return layer.weight if plain else layer


def group_of(layer: Any) -> mx.distributed.Group | None:
    """The devices over which its outputs are to be summed."""
    return layer.group if type(layer) in SUMMED else None


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
    one = RowsLinear(512, 8, bias=False, **how)  # of any size: its arrays are replaced
    one.update(whole)
    return one


def product(parts: ModuleType, x: mx.array, w: Weights, gated: bool = False) -> mx.array:
    """x W^T of [row, channel]."""
    if isinstance(w, mx.array):
        return parts.product(x, w, gated)
    return parts.quantized_product(x, w, gated)
