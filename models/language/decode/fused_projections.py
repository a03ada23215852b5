"""The weights of a decoding step: layers with the same input are fused, plain or quantized."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, TypeAlias

import mlx.core as mx
import mlx.nn as nn

from models.language.decode.matmul import RowsAllToSharded, RowsEmbedding, RowsLinear, RowsShardedToAll

Weights: TypeAlias = mx.array | nn.Module  # the array of a plain layer, or a quantized layer
ARRAYS = ("weight", "scales", "biases")  # their rows are the outputs of the layer
# Sharded layers hold some of the outputs, or (SUMMED) some of the inputs: their outputs are summed over all devices.
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


def can_fuse(layers: Sequence[Any]) -> bool:
    """Whether the layers are of the same supported kind."""
    kinds = {_kind(layer) for layer in layers}
    return len(kinds) == 1 and None not in kinds


def _kind(layer: Any) -> tuple[Any, ...] | None:
    kind = ("bias" in layer, type(layer) in SUMMED)
    if type(layer) in PLAIN:
        return kind
    if type(layer) in QUANTIZED:
        return (*kind, layer.group_size, layer.bits, layer.mode)
    return None


def is_head(layer: Any) -> bool:
    """Whether the layer can compute the logits: a separate head, or the embedding."""
    if type(layer) in (*PLAIN, *QUANTIZED):
        return "bias" not in layer
    return type(layer) is nn.Embedding or type(layer) in EMBEDDINGS


def weights(layer: Any) -> Weights:
    plain = type(layer) in (*PLAIN, nn.Embedding)
    return layer.weight if plain else layer


def group_of(layer: Any) -> mx.distributed.Group | None:
    """The devices over which the outputs of the layer are summed."""
    return layer.group if type(layer) in SUMMED else None


def fuse(layers: Sequence[Any]) -> Weights:
    """The weights of several layers as one, without biases. The layers become views of it."""
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
    fused = RowsLinear(  # of any size: its arrays are replaced
        512, 8, bias=False, group_size=first.group_size, bits=first.bits, mode=first.mode
    )
    fused.update(whole)
    return fused


def product(ops: ModuleType, x: mx.array, w: Weights, gated: bool = False) -> mx.array:
    """x W^T, [row, channel], by `kernels` or `reference_ops`."""
    if isinstance(w, mx.array):
        return ops.product(x, w, gated)
    return ops.quantized_product(x, w, gated)


def normed_product(
    ops: ModuleType, h: mx.array, r: mx.array, norm: mx.array, eps: float, w: Weights, gated: bool = False
) -> tuple[mx.array, mx.array]:
    """h + r, and the product of its RMS norm."""
    if isinstance(w, mx.array):
        total, y = ops.normed_product(h, r, norm, eps, w, gated)
        return total, y
    total, normed = ops.sum_and_norm(h, r, norm, eps)
    return total, product(ops, normed, w, gated)
