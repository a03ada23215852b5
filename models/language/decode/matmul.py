"""Replaces the products of mlx-lm's quantized layers with ours, which are fast for prompts and batches on NVIDIA cards."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import mlx.core as mx
import mlx.nn as nn

from models.kernels.checked import HALVES
from models.kernels.gpu import on_cuda
from models.kernels.inflight import limit_inflight_memory
from models.language.decode import packed_matmul
from models.layers import quantized
from models.layers.quantized import MANY, QuantizedEmbedding, QuantizedLinear

# Bytes beyond what stays: without a limit, a GPU gets all layers at once, each with unpacked weights.
ROOM = 2 * 1024**3


def product(x: mx.array, layer: nn.Module, bias: mx.array | None = None) -> mx.array:
    """Like models.layers.quantized.product, with our kernel for the few rows of a batch of texts."""
    *apart, inputs = x.shape
    rows = x.size // inputs
    if not (on_cuda() and rows > 1 and packed_matmul.takes(rows, layer, x.dtype)):
        return quantized.product(x, layer, bias)
    y = packed_matmul.product(x.reshape(rows, inputs), layer).reshape(*apart, -1)
    return y if bias is None else y + bias


class RowsLinear(QuantizedLinear):
    def __call__(self, x: mx.array) -> mx.array:
        return product(x, self, self.get("bias"))


class RowsEmbedding(QuantizedEmbedding):
    def as_linear(self, x: mx.array) -> mx.array:
        return product(x, self)


class RowsAllToSharded(nn.QuantizedAllToShardedLinear):
    """A device's share of the outputs."""

    def __call__(self, x: mx.array) -> mx.array:
        return product(x, self, self.get("bias"))


class RowsShardedToAll(nn.QuantizedShardedToAllLinear):
    """A device's share of the inputs: outputs are summed over all devices."""

    def __call__(self, x: mx.array) -> mx.array:
        y = mx.distributed.all_sum(product(x, self), group=self.group)
        return y + self["bias"] if "bias" in self else y


OURS: dict[type[nn.Module], type[nn.Module]] = {
    nn.QuantizedLinear: RowsLinear,
    nn.QuantizedEmbedding: RowsEmbedding,
    nn.QuantizedAllToShardedLinear: RowsAllToSharded,
    nn.QuantizedShardedToAllLinear: RowsShardedToAll,
}


def patch_matmul(model: nn.Module) -> None:
    """In place, for any architecture. Experts and subclasses of these layers stay unchanged."""
    for layer in model.modules():
        layer.__class__ = OURS.get(type(layer), type(layer))
    for dtype in {layer["scales"].dtype for layer in _quantized(model)}:
        packed_matmul.QUANTIZED_ROWS.works(
            dtype
        )  # runs the kernel, which cannot happen while a step is traced


def compile_matmul(model: nn.Module) -> Iterator[None]:
    """Compile the kernels for several rows that the model's layers use, one after another."""
    if not on_cuda():
        return
    compiled = set()
    for layer in _quantized(model):
        dtype, outputs = layer["scales"].dtype, layer["weight"].shape[0]
        kind = (layer.bits, layer.group_size, dtype)
        if kind in compiled or outputs % 2 or not packed_matmul.takes(packed_matmul.MOST, layer, dtype):
            continue
        compiled.add(kind)
        inputs = layer["scales"].shape[1] * layer.group_size
        for rows in range(packed_matmul.TILE, packed_matmul.MOST + 1, packed_matmul.TILE):
            x = mx.zeros((rows, inputs), dtype)
            mx.eval(packed_matmul.product(x, layer), packed_matmul.product(x, layer, gated=True))
            yield


def inflight_limit(model: nn.Module) -> Callable[[int], AbstractContextManager[None]]:
    """The context in which a step with a number of slots is launched: limits memory in flight if it unpacks weights."""
    if not on_cuda():
        return lambda slots: nullcontext()
    quantized = _quantized(model)
    most = packed_matmul.MOST if all(map(_packed, quantized)) else MANY - 1
    return lambda slots: limit_inflight_memory(ROOM) if quantized and slots > most else nullcontext()


def _quantized(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if type(layer) in OURS.values()]


def _packed(layer: nn.Module) -> bool:
    return any(packed_matmul.takes(packed_matmul.MOST, layer, dtype) for dtype in HALVES)
