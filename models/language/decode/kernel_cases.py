"""Small test cases for the kernels of a decoding step: their results next to those of plain operations.

`Decoder.works` compares whole steps of the loaded model; these cases show which kernel differs.
"""

from collections.abc import Iterator

import mlx.core as mx

from models.kernels.checked import HALVES, Case, CheckedKernel
from models.kernels.gpu import on_cuda
from models.language.decode import kernels, reference_ops
from models.language.decode.reference_ops import Columns, HeadLayout

SIZE, KV_HEADS, GROUP, COLUMNS = 64, 2, 3, 512
SCALE = SIZE**-0.5


def _random(shape: tuple[int, ...], seed: int, dtype: mx.Dtype) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed)).astype(dtype)


def _columns() -> Columns:
    """Rows with different first and last columns."""
    return Columns(mx.array([0, 100, 7], mx.int32), mx.array([0, 400, 9], mx.int32))


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


def _heads(dtype: mx.Dtype) -> Iterator[Case]:
    rows, heads = 3, KV_HEADS * (GROUP + 2)
    projected = _random((rows, heads * SIZE), 1, dtype)
    norm, bias = 1 + 0.3 * _random((SIZE,), 2, dtype), _random((heads * SIZE,), 3, dtype)
    inv_freq = 1e4 ** (-mx.arange(0, SIZE, 2, dtype=mx.float32) / SIZE)
    for layout in (
        HeadLayout(SIZE, inv_freq, norm, norm, None, 1e-6),
        HeadLayout(SIZE, inv_freq, None, None, bias, 0.0),
    ):
        keys, values = (_random((rows, KV_HEADS, COLUMNS, SIZE), seed, dtype) for seed in (4, 5))
        plain = reference_ops.heads(projected, layout, keys, values, _columns())
        mx.eval(plain)  # the kernel writes to its input caches
        yield from zip(kernels.heads(projected, layout, keys, values, _columns()), plain, strict=True)


def _attention(dtype: mx.Dtype) -> Iterator[Case]:
    queries = _random((3, KV_HEADS * GROUP, SIZE), 1, dtype)
    keys, values = (_random((3, KV_HEADS, COLUMNS, SIZE), seed, dtype) for seed in (2, 3))
    plain = reference_ops.attention(queries, keys, values, _columns(), 1, SCALE)
    for splits in (1, 4):  # one kernel, or one for the parts and one that joins them
        yield kernels.attention(queries, keys, values, _columns(), splits, SCALE), plain


DECODING = (
    CheckedKernel("sum_and_norm", on_cuda, HALVES, _sums),
    CheckedKernel("product", on_cuda, HALVES, _products),
    CheckedKernel("heads", on_cuda, HALVES, _heads),
    CheckedKernel("attention", on_cuda, HALVES, _attention),
)
