"""Small test cases for the kernels of a decoding step: their results next to those of plain operations.

`Decoder.works` compares whole steps of the loaded model; these cases show which kernel differs.
"""

from collections.abc import Iterator, Sequence

import mlx.core as mx

from models.kernels.checked import HALVES, Case, CheckedKernel
from models.kernels.gpu import on_cuda
from models.kernels.paged_attention import random_pool
from models.language.decode import kernels, reference_ops
from models.language.decode.reference_ops import HeadLayout, Places

SIZE, KV_HEADS, GROUP = 64, 2, 3


def _random(shape: tuple[int, ...], seed: int, dtype: mx.Dtype) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed)).astype(dtype)


def _sums(dtype: mx.Dtype) -> Iterator[Case]:
    h, r, weight = (_random(shape, seed, dtype) for seed, shape in enumerate([(3, 640), (3, 640), (640,)]))
    yield from zip(
        kernels.sum_and_norm(h, r, weight, 1e-6), reference_ops.sum_and_norm(h, r, weight, 1e-6), strict=True
    )


def _products(dtype: mx.Dtype) -> Iterator[Case]:
    w = _random((46, 328), 1, dtype)
    for rows in (1, 2, 4):
        x = _random((rows, 328), rows + 1, dtype)
        for gated in (False, True):
            plain = reference_ops.product(x.astype(mx.float32), w.astype(mx.float32), gated)
            yield kernels.product(x, w, gated), plain


def _normed_products(dtype: mx.Dtype) -> Iterator[Case]:
    w, weight = _random((46, 320), 1, dtype), _random((320,), 2, dtype)
    for rows in (1, 2, 3):
        h, r = (_random((rows, 320), seed, dtype) for seed in (rows + 2, rows + 7))
        for gated in (False, True):
            total, normed = reference_ops.sum_and_norm(h, r, weight, 1e-6)
            plain = reference_ops.product(normed.astype(mx.float32), w.astype(mx.float32), gated)
            yield from zip(kernels.normed_product(h, r, weight, 1e-6, w, gated), (total, plain), strict=True)


def _heads(dtype: mx.Dtype) -> Iterator[Case]:
    """Tokens within a block, at its end and in a later one, with whole and with quantized pools. Results are dequantized: a
    key between two levels may go to either."""
    rows, heads = 3, KV_HEADS * (GROUP + 2)
    projected = _random((rows, heads * SIZE), 1, dtype)
    norm, bias = 1 + 0.3 * _random((SIZE,), 2, dtype), _random((heads * SIZE,), 3, dtype)
    inv_freq = 1e4 ** (-mx.arange(0, SIZE, 2, dtype=mx.float32) / SIZE)
    places = Places(mx.array([[1, 2], [3, 4], [5, 6]], mx.int32), mx.array([0, 31, 40], mx.int32))
    for bits, layout in (
        (0, HeadLayout(SIZE, inv_freq, norm, norm, None, 1e-6)),
        (0, HeadLayout(SIZE, inv_freq, None, None, bias, 0.0)),
        (8, HeadLayout(SIZE, inv_freq, norm, norm, None, 1e-6)),
    ):
        keys, values = (random_pool((7, KV_HEADS, 32, SIZE), seed, dtype, bits, 64) for seed in (4, 5))
        plain = reference_ops.heads(projected, layout, keys, values, places)
        mx.eval(plain)  # the kernel writes to its input pools
        ours = kernels.heads(projected, layout, keys, values, places)
        yield ours[0], plain[0]
        for pool, right in zip(ours[1:], plain[1:], strict=True):
            yield _whole(pool, bits), _whole(right, bits)


def _whole(pool: Sequence[mx.array], bits: int) -> mx.array:
    if not bits:
        return pool[0]
    packed, scales, biases = pool
    return mx.dequantize(packed, scales, biases, 64, bits)


DECODING = (
    CheckedKernel("sum_and_norm", on_cuda, HALVES, _sums),
    CheckedKernel("product", on_cuda, HALVES, _products),
    CheckedKernel("normed_product", on_cuda, HALVES, _normed_products),
    CheckedKernel("heads", on_cuda, HALVES, _heads),
)
