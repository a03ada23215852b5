"""Quantized layers whose product suits the number of rows it is taken of, on NVIDIA cards.

MLX's quantized product there is made for the few rows of text being written. Metal's and a processor's are good for many
rows too, and are left alone.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from models.fused import on_cuda

# A row of a quantized product costs four to eight times what it costs in a plain one, and a weight is unpacked in the time
# of some hundred rows: at 4 bits on an H100 14 ns a row for each million weights, against 3 ns and 1.6 µs once.
MANY = 128


def product(x: mx.array, layer: nn.Module, bias: mx.array | None = None) -> mx.array:
    """`x` by the transposed weight of a quantized layer. Shapes alone decide how: in a compiled step that is free."""
    if not on_cuda():
        return _plus(_packed(x, layer), bias)
    # What is no row but a batch of its own, as the tokens of a batch of texts are, would be a product of its own.
    rows = x.reshape(-1, x.shape[-1])
    y = _unpacked(rows, layer, bias) if many(rows) else _plus(_packed(rows, layer), bias)
    return y.reshape(*x.shape[:-1], y.shape[-1])


def many(rows: mx.array) -> bool:
    """Whether it is faster to unpack the weight first."""
    return len(rows) >= MANY


def _packed(x: mx.array, layer: nn.Module) -> mx.array:
    return mx.quantized_matmul(x, layer.weight, layer.scales, layer.get("biases"), **_how(layer))


def _unpacked(rows: mx.array, layer: nn.Module, bias: mx.array | None) -> mx.array:
    dtype = mx.result_type(rows, layer.scales)  # scales of floating point have a say, packed ones have none
    scales, biases = layer.scales, layer.get("biases")
    if biases is not None:
        scales, biases = scales.astype(dtype), biases.astype(dtype)
    weight = mx.dequantize(layer.weight, scales, biases, **_how(layer), dtype=dtype).T
    return rows @ weight if bias is None else mx.addmm(bias, rows, weight)


def _plus(y: mx.array, bias: mx.array | None) -> mx.array:
    return y if bias is None else y + bias


def _how(layer: nn.Module) -> dict[str, Any]:
    return {"group_size": layer.group_size, "bits": layer.bits, "mode": layer.mode}


class QuantizedLinear(nn.QuantizedLinear):
    def __call__(self, x: mx.array) -> mx.array:
        return product(x, self, self.get("bias"))


class ScaledLinear(nn.QuantizedLinear):
    """A quantized layer whose rows also have a factor each: nvfp4's scales are too coarse for very small weights."""

    def __init__(self, input_dims: int, output_dims: int, *how: Any, **named: Any) -> None:
        super().__init__(input_dims, output_dims, *how, **named)
        self.global_scale = mx.ones((output_dims,))

    def __call__(self, x: mx.array) -> mx.array:
        y = product(x, self)
        y = (y * self.global_scale).astype(y.dtype)
        return _plus(y, self.get("bias"))


class QuantizedEmbedding(nn.QuantizedEmbedding):
    def as_linear(self, x: mx.array) -> mx.array:
        return product(x, self)
