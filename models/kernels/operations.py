"""MLX's own operations that models use, each compared with NumPy in float64 on a small case.

MLX tests them, but not on every device, driver and version: a wrong one is the first thing that a report of a machine
has to say.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

Doubles: TypeAlias = NDArray[np.float64]

# Largest difference, relative to the largest value, by rounding alone. GPUs may round the factors of float32 products to
# tf32 (MLX_ENABLE_TF32).
EXACT, TF32, HALF = 1e-5, 5e-3, 2e-2
FLOAT32_PRODUCT = "product, float32"


@dataclass(frozen=True)
class Operation:
    """`compute` returns MLX's result and the expected one. Differences up to `allowed` are rounding."""

    name: str
    allowed: float
    compute: Callable[[], tuple[mx.array, Doubles]]

    def difference(self) -> float:
        """Relative to the largest value; NaN if MLX's result contains NaN."""
        ours, expected = self.compute()
        wide = np.array(ours.astype(mx.float32), np.float64)
        if wide.shape != expected.shape:
            raise ValueError(f"the result has the shape {wide.shape}; {expected.shape} is expected")
        return cast(float, np.abs(wide - expected).max() / max(np.abs(expected).max(), 1e-12))


def _random(shape: tuple[int, ...], seed: int) -> mx.array:
    """Drawn by NumPy: the same numbers on every device."""
    return mx.array(np.random.default_rng(seed).standard_normal(shape, np.float32))


def _doubles(x: mx.array) -> Doubles:
    return np.array(x.astype(mx.float32), np.float64)


def _product(dtype: mx.Dtype) -> tuple[mx.array, Doubles]:
    x, w = _random((48, 320), 1).astype(dtype), _random((96, 320), 2).astype(dtype)
    return x @ w.T, _doubles(x) @ _doubles(w).T


def _quantized(bits: int, rows: int) -> tuple[mx.array, Doubles]:
    x, w = _random((rows, 256), 3), _random((128, 256), 4)
    packed, scales, biases = mx.quantize(w, 64, bits)
    levels = np.array(packed)[:, :, None] >> (np.arange(32 // bits, dtype=np.uint32) * bits) & (2**bits - 1)
    weight = levels.reshape(128, 4, 64) * _doubles(scales)[:, :, None] + _doubles(biases)[:, :, None]
    ours = mx.quantized_matmul(x, packed, scales, biases, True, 64, bits)
    return ours, _doubles(x) @ weight.reshape(128, 256).T


def _attention(dtype: mx.Dtype, length: int) -> tuple[mx.array, Doubles]:
    """Two heads that share keys and values, causal."""
    q, k, v = (
        _random((1, heads, length, 64), seed).astype(dtype) for heads, seed in ((2, 5), (1, 6), (1, 7))
    )
    ours = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.125, mask="causal")
    scores = _doubles(q) @ _doubles(k).swapaxes(-1, -2) * 0.125
    scores = np.where(np.tril(np.ones((length, length), bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return ours, weights / weights.sum(-1, keepdims=True) @ _doubles(v)


def _rms_norm() -> tuple[mx.array, Doubles]:
    x, weight = 3 * _random((5, 640), 8), _random((640,), 9)
    wide = _doubles(x)
    right = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5) * _doubles(weight)
    return mx.fast.rms_norm(x, weight, 1e-5), right


def _layer_norm() -> tuple[mx.array, Doubles]:
    x = 3 * _random((5, 640), 10) + 1
    wide = _doubles(x)
    right = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
    return mx.fast.layer_norm(x, None, None, 1e-5), right


def _rotation() -> tuple[mx.array, Doubles]:
    x = _random((1, 2, 7, 64), 11)
    angles = (np.arange(7) + 1000)[:, None] * 10000.0 ** (-np.arange(0, 64, 2) / 64)
    low, high = np.split(_doubles(x), 2, axis=-1)
    right = np.concatenate(
        [low * np.cos(angles) - high * np.sin(angles), low * np.sin(angles) + high * np.cos(angles)], axis=-1
    )
    return mx.fast.rope(x, 64, traditional=False, base=10000.0, scale=1.0, offset=1000), right


def _convolution() -> tuple[mx.array, Doubles]:
    x, w = _random((1, 9, 11, 16), 12), _random((8, 3, 3, 16), 13)
    padded = np.pad(_doubles(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return mx.conv2d(x, w, padding=1), np.einsum("nhwcij,oijc->nhwo", windows, _doubles(w))


def _compiled() -> tuple[mx.array, Doubles]:
    """Several operations that MLX fuses into one kernel, except on the CPU (`device.prepare`)."""
    gate, up = _random((7, 33), 14), _random((7, 33), 15)
    fused = mx.compile(lambda gate, up: nn.silu(gate) * up + 1)
    wide = _doubles(gate)
    return fused(gate, up), wide / (1 + np.exp(-wide)) * _doubles(up) + 1


def _noise() -> tuple[mx.array, Doubles]:
    """A seed gives the same numbers on every device."""
    return mx.random.uniform(shape=(4,), key=mx.random.key(7)), np.array(NOISE)


NOISE = (0.22498463094234467, 0.2303369790315628, 0.4536093473434448, 0.24646227061748505)

OPERATIONS = (
    Operation(FLOAT32_PRODUCT, TF32, lambda: _product(mx.float32)),
    Operation("product, float16", HALF, lambda: _product(mx.float16)),
    Operation("product, bfloat16", HALF, lambda: _product(mx.bfloat16)),
    *(
        Operation(f"product of {rows} by {bits}-bit weights", TF32, lambda bits=bits, rows=rows: _quantized(bits, rows))  # type: ignore[misc]
        for bits in (4, 8)
        for rows in (1, 5, 40)
    ),
    Operation("attention, float32", TF32, lambda: _attention(mx.float32, 33)),
    Operation("attention, float16", HALF, lambda: _attention(mx.float16, 33)),
    Operation("attention, bfloat16", HALF, lambda: _attention(mx.bfloat16, 200)),
    Operation("RMS norm", EXACT, _rms_norm),
    Operation("layer norm", EXACT, _layer_norm),
    Operation("rotation", 1e-4, _rotation),
    Operation("convolution", TF32, _convolution),
    Operation("compiled function", EXACT, _compiled),
    Operation("random numbers of a seed", 1e-6, _noise),
)  # fmt: skip
