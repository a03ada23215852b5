"""Quantized layers whose matrix product depends on the number of rows, on NVIDIA cards.

MLX's quantized product there is optimized for the few rows of text generation. Metal's and the CPU's also suit many rows and
are used as they are.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from models.kernels.gpu import on_cuda

# From eight rows on MLX has other kernels (for 8, 17 and 33 rows), each compiled for half a minute on first use (H200). They
# beat dequantizing for tens of rows, which pictures never have, and take four times as long for thousands.
MANY = 8
# With fewer inputs MLX's kernel for several rows returned NaN (0.32.4, H200); it was not verified for outputs that are not a
# multiple of this.
INPUTS, OUTPUTS = 128, 64


def product(x: mx.array, layer: nn.Module, bias: mx.array | None = None) -> mx.array:
    """`x` times the transposed weight of a quantized layer. Shapes alone decide how, which is free in a compiled step."""
    if on_cuda():
        *leading, inputs = x.shape
        rows, outputs = x.size // inputs, layer["weight"].shape[0]
        if rows >= MANY or (rows > 1 and (inputs < INPUTS or outputs % OUTPUTS)):
            return _unpacked(x, layer, bias)
        # As a batch, each row would be a product of its own.
        y = _packed(x.reshape(rows, inputs), layer).reshape(*leading, outputs)
    else:
        y = _packed(x, layer)
    return y if bias is None else y + bias


def _packed(x: mx.array, layer: nn.Module) -> mx.array:
    weight, scales, biases = layer["weight"], layer["scales"], layer.get("biases")
    return mx.quantized_matmul(x, weight, scales, biases, True, layer.group_size, layer.bits, layer.mode)


def _unpacked(x: mx.array, layer: nn.Module, bias: mx.array | None) -> mx.array:
    dtype = mx.result_type(x, layer["scales"])  # packed scales do not count
    scales, biases = layer["scales"], layer.get("biases")
    if biases is not None:
        scales, biases = scales.astype(dtype), biases.astype(dtype)
    weight = mx.dequantize(
        layer["weight"], scales, biases, layer.group_size, layer.bits, layer.mode, dtype=dtype
    ).T
    return x @ weight if bias is None else mx.addmm(bias, x, weight)


class QuantizedLinear(nn.QuantizedLinear):
    def __call__(self, x: mx.array) -> mx.array:
        return product(x, self, self.get("bias"))


class ScaledLinear(nn.QuantizedLinear):
    """A quantized layer with a factor per row: nvfp4's scales are too coarse for very small weights."""

    def __init__(self, input_dims: int, output_dims: int, *how: Any, **named: Any) -> None:
        super().__init__(input_dims, output_dims, *how, **named)
        self.global_scale = mx.ones((output_dims,))

    def __call__(self, x: mx.array) -> mx.array:
        y = product(x, self)
        y = (y * self.global_scale).astype(y.dtype)
        return y + self.bias if "bias" in self else y


class QuantizedEmbedding(nn.QuantizedEmbedding):
    def as_linear(self, x: mx.array) -> mx.array:
        return product(x, self)
