"""mlx-lm's quantized layers with our products, which suit prompts and batches on NVIDIA cards too."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import mlx.core as mx
import mlx.nn as nn

from models.kernels.checked import HALVES
from models.kernels.gpu import on_cuda
from models.kernels.inflight import limit_inflight_memory
from models.language.decode import packed_matmul
from models.layers import quantized
from models.layers.quantized import MANY, QuantizedEmbedding, QuantizedLinear

# Beyond what stays: else a GPU is handed all layers at once, with weights that are unpacked for each.
ROOM = 2 * 1024**3


def product(x: mx.array, layer: nn.Module, bias: mx.array | None = None) -> mx.array:
    """As `quantized_layers.product`, but for the few rows that texts have."""
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
    """A device's share of the inputs: the outputs are summed over all."""

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
    """In place, whatever the architecture. What is derived from these classes, and experts, stay as they are."""
    for layer in model.modules():
        layer.__class__ = OURS.get(type(layer), type(layer))
    for dtype in {layer["scales"].dtype for layer in _quantized(model)}:
        packed_matmul.QUANTIZED_ROWS.works(
            dtype
        )  # is found out by running it, which a step that is traced cannot


def compile_matmul(model: nn.Module) -> None:
    """Have the kernels for several rows compiled that the model's layers are multiplied by."""
    if not on_cuda():
        return
    met = set()
    for layer in _quantized(model):
        dtype, outputs = layer["scales"].dtype, layer["weight"].shape[0]
        kind = (layer.bits, layer.group_size, dtype)
        if kind in met or outputs % 2 or not packed_matmul.takes(packed_matmul.MOST, layer, dtype):
            continue
        met.add(kind)
        inputs = layer["scales"].shape[1] * layer.group_size
        for rows in range(packed_matmul.TILE, packed_matmul.MOST + 1, packed_matmul.TILE):
            x = mx.zeros((rows, inputs), dtype)
            mx.eval(packed_matmul.product(x, layer), packed_matmul.product(x, layer, gated=True))


def lead_of(model: nn.Module) -> Callable[[int], AbstractContextManager[None]]:
    """How a step of so many slots is handed to the device: with bounds, where weights are unpacked for it."""
    if not on_cuda():
        return lambda slots: nullcontext()
    quantized = _quantized(model)
    most = packed_matmul.MOST if all(map(_packed, quantized)) else MANY - 1
    return lambda slots: limit_inflight_memory(ROOM) if quantized and slots > most else nullcontext()


def _quantized(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if type(layer) in OURS.values()]


def _packed(layer: nn.Module) -> bool:
    return any(packed_matmul.takes(packed_matmul.MOST, layer, dtype) for dtype in HALVES)
