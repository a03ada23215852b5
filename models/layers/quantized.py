"""Quantized layers whose product suits the number of rows it is taken of, on NVIDIA cards.

MLX's quantized product there is made for the few rows of text being written. Metal's and a processor's are good for many
rows too, and are left alone.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from models.kernels.gpu import on_cuda

# From eight rows on MLX has other kernels, which are compiled for half a minute each when they are first met: for eight
# rows, for 17 and for 33 (H200). They are quicker than unpacking a weight and multiplying by it for tens of rows, of which
# pictures have none, and take four times as long for thousands.
MANY = 8
# With fewer inputs MLX's kernel for several rows gave what are no numbers (0.32.4, H200); outputs that are no multiple of
# this were not seen to be right either.
INPUTS, OUTPUTS = 128, 64


def product(x: mx.array, layer: nn.Module, bias: mx.array | None = None) -> mx.array:
    """`x` by the transposed weight of a quantized layer. Shapes alone decide how: in a compiled step that is free."""
    if on_cuda():
        *apart, inputs = x.shape
        rows, outputs = x.size // inputs, layer["weight"].shape[0]
        if rows >= MANY or (rows > 1 and (inputs < INPUTS or outputs % OUTPUTS)):
            return _unpacked(x, layer, bias)
        # Rows of a batch, as the tokens of several texts are, would be a product each.
        y = _packed(x.reshape(rows, inputs), layer).reshape(*apart, outputs)
    else:
        y = _packed(x, layer)
    return y if bias is None else y + bias


def _packed(x: mx.array, layer: nn.Module) -> mx.array:
    """By MLX's own product."""
    weight, scales, biases = layer["weight"], layer["scales"], layer.get("biases")
    return mx.quantized_matmul(x, weight, scales, biases, True, layer.group_size, layer.bits, layer.mode)


def _unpacked(x: mx.array, layer: nn.Module, bias: mx.array | None) -> mx.array:
    dtype = mx.result_type(x, layer["scales"])  # scales of floating point have a say, packed ones have none
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
    """A quantized layer whose rows also have a factor each: nvfp4's scales are too coarse for very small weights."""

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
