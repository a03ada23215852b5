"""Attention whose memory is linear in the tokens, on the CPU too.

GPU kernels never materialize the scores. On the CPU MLX computes those of all heads at once: 70 GB for a picture of
2048 x 2048 with four heads. If the system refuses that much, the allocator returns a null pointer that is not checked, and
the process crashes in the BLAS (MLX 0.32.4). So queries are processed in chunks.

Most of the time goes into the exponential, for which NumPy takes a tenth of the time of MLX (scalar code in its x86 wheels);
NumPy's sums over many keys are also more accurate.
"""

from collections.abc import Callable, Iterable, Iterator

import mlx.core as mx
import numpy as np

# Bytes of scores per chunk: smaller ones are slower, larger ones no faster.
CHUNK = 4 * 2**20
# Fewer queries make an inefficient matrix product, so chunks over many keys are larger. Those of the largest picture just fit
# the 32 MB buffers that MLX reuses.
LEAST_QUERIES = 120

Attend = Callable[[mx.array, mx.array, mx.array, float], mx.array]


def on_cpu() -> bool:
    return bool(mx.default_device() == mx.cpu)


def softmax_attention(q: mx.array, k: mx.array, v: mx.array, scale: float) -> mx.array:
    """Attention of (batch, head, token, channel) without a mask; heads of queries may share those of keys and values."""
    if not on_cpu():
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale)
    if (shared := q.shape[1] // k.shape[1]) > 1:
        k, v = mx.repeat(k, shared, axis=1), mx.repeat(v, shared, axis=1)
    heads, queries = chunk_shape(q.shape, k.shape[2], q.itemsize)
    evaluated = _evaluated(q, k, v)
    attend = _attend_now if evaluated and q.dtype == mx.float32 else _one_after_another()
    # While a graph is traced nothing is copied: MLX cannot export the copy.
    k = mx.contiguous(k) if evaluated else k
    groups = [slice(first, first + heads) for first in range(0, q.shape[1], heads)]
    attended = [
        _joined(_chunks(q[:, group], k[:, group], v[:, group], scale, queries, attend), axis=2)
        for group in groups
    ]
    return _joined(attended, axis=1)


def chunk_shape(shape: tuple[int, ...], keys: int, itemsize: int) -> tuple[int, int]:
    """The heads and queries in a chunk of (batch, head, token, channel): one head at a time where there are many tokens."""
    batch, heads, queries, _ = shape
    row = batch * keys * itemsize
    if heads * queries * row <= CHUNK:
        return heads, queries
    return 1, min(queries, max(LEAST_QUERIES, CHUNK // row))


def _chunks(
    q: mx.array, k: mx.array, v: mx.array, scale: float, queries: int, attend: Attend
) -> Iterator[mx.array]:
    for first in range(0, q.shape[2], queries):
        yield attend(q[:, :, first : first + queries], k, v, scale)


def _joined(chunks: Iterable[mx.array], axis: int) -> mx.array:
    arrays = list(chunks)
    return arrays[0] if len(arrays) == 1 else mx.concatenate(arrays, axis=axis)


def _evaluated(*arrays: mx.array) -> bool:
    """False while a step is compiled: its arrays have no values yet."""
    try:
        mx.eval(*arrays)
    except ValueError:  # MLX has no other way to ask
        return False
    return True


def _attend_now(q: mx.array, k: mx.array, v: mx.array, scale: float) -> mx.array:
    scores = (q * scale) @ k.swapaxes(-1, -2)
    mx.eval(scores)
    weights = np.asarray(scores)  # the same memory
    weights -= weights.max(axis=-1, keepdims=True)
    np.exp(weights, out=weights)
    attended = (scores @ v) / mx.array(weights.sum(axis=-1, keepdims=True))
    mx.eval(attended)
    return attended


def _one_after_another() -> Attend:
    """Each chunk depends on the one before, so only one chunk's scores are in memory."""
    last: list[mx.array] = []

    def attend(q: mx.array, k: mx.array, v: mx.array, scale: float) -> mx.array:
        [q] = mx.depends([q], last) if last else [q]
        last[:] = [mx.fast.scaled_dot_product_attention(q, k, v, scale=scale)]
        return last[0]

    return attend
