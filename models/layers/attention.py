"""Attention whose memory grows with the tokens on a processor too, and not with their square.

A GPU has kernels that never hold the scores. On a processor MLX makes all of them at once, every head's: 70 GB for a
picture of 2048 x 2048 with four heads. Where the system refuses so much, its allocator answers with a null pointer that
nothing checks, and the process dies inside the BLAS that writes there first (MLX 0.32.4). So queries go in pieces.

Most of the time there goes into the exponential, which NumPy takes in a tenth of MLX's time (scalar code in its wheels for
x86), and NumPy's sums over many keys are exact to more digits.
"""

from collections.abc import Callable, Iterator

import mlx.core as mx
import numpy as np

# Bytes of scores that are worked on together: smaller pieces are slower, and larger ones bring nothing.
PIECE = 4 * 2**20
# Fewer queries than this make a poor matrix product, so pieces of many tokens are larger. Those of the largest picture are
# just within the 32 MB that MLX keeps for the next one.
LEAST_QUERIES = 120

Attend = Callable[[mx.array, mx.array, mx.array, float], mx.array]


def on_processor() -> bool:
    return bool(mx.default_device() == mx.cpu)


def softmax_attention(q: mx.array, k: mx.array, v: mx.array, scale: float) -> mx.array:
    """Of (batch, head, token, channel); everything is seen, and there are as many heads of keys as of queries."""
    if not on_processor():
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale)
    heads, queries = piece_shape(q.shape, k.shape[2], q.itemsize)
    evaluated = _evaluated(q, k, v)
    attend = _attend_now if evaluated and q.dtype == mx.float32 else _after()
    # Of a graph that is only looked at, nothing is copied: MLX cannot export that.
    k = mx.contiguous(k) if evaluated else k
    groups = [slice(first, first + heads) for first in range(0, q.shape[1], heads)]
    attended = [
        _joined(_pieces(q[:, group], k[:, group], v[:, group], scale, queries, attend), axis=2)
        for group in groups
    ]
    return _joined(attended, axis=1)


def piece_shape(shape: tuple[int, ...], keys: int, itemsize: int) -> tuple[int, int]:
    """How many heads and queries of (batch, head, token, channel) make a piece: a head at a time where they are many."""
    batch, heads, queries, _ = shape
    row = batch * keys * itemsize
    if heads * queries * row <= PIECE:
        return heads, queries
    return 1, min(queries, max(LEAST_QUERIES, PIECE // row))


def _pieces(
    q: mx.array, k: mx.array, v: mx.array, scale: float, queries: int, attend: Attend
) -> Iterator[mx.array]:
    for first in range(0, q.shape[2], queries):
        yield attend(q[:, :, first : first + queries], k, v, scale)


def _joined(pieces: Iterator[mx.array] | list[mx.array], axis: int) -> mx.array:
    listed = list(pieces)
    return listed[0] if len(listed) == 1 else mx.concatenate(listed, axis=axis)


def _evaluated(*arrays: mx.array) -> bool:
    """Whether they can be computed now: those of a step that is being compiled have no values."""
    try:
        mx.eval(*arrays)
    except ValueError:  # how MLX says so, and the only way it does
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


def _after() -> Attend:
    """Each piece waits for the one before, so that the scores of one are gone before those of the next are made."""
    last: list[mx.array] = []

    def attend(q: mx.array, k: mx.array, v: mx.array, scale: float) -> mx.array:
        [q] = mx.depends([q], last) if last else [q]
        last[:] = [mx.fast.scaled_dot_product_attention(q, k, v, scale=scale)]
        return last[0]

    return attend
