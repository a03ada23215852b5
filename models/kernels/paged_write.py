"""Writes into a pool of blocks in place, whatever else holds or reads the pool's arrays.

    if works(shape): zero = write(keys, values, new_keys, new_values, blocks, offsets)

MLX writes to an array in place only if no other array and no kernel in flight uses its memory, and copies it otherwise: all
blocks of a layer, while the step before still reads some. MLX does not know of this write, so what reads the blocks must
depend on the zero that is returned: add it to `tables` or `ends`.
"""

from collections.abc import Iterator
from functools import cache

import mlx.core as mx

from models.kernels import portable
from models.kernels.checked import HALVES, Case, CheckedKernel
from models.kernels.gpu import on_cuda
from models.kernels.paged_attention import Parts, Shape, pool_names, random_pool
from models.kernels.paged_source import STORE_QUANTIZED, STORE_ROWS, STORE_TOKENS, STORE_WHOLE

THREADS = 256
GROUP = 64  # of quantized keys and values


def works(shape: Shape) -> bool:
    """Whether the kernel may be used. The first call for a shape runs it, which is impossible while a step is traced."""
    whole = shape.bits == 0 or (shape.bits in (4, 8) and shape.group == GROUP)
    return whole and checked(shape._replace(heads=1)).works(shape.dtype)


def write(
    keys: Parts,
    values: Parts,
    new_keys: mx.array,
    new_values: mx.array,
    blocks: mx.array,
    offsets: mx.array,
) -> mx.array:
    """Tokens [token, head, channel] go to these blocks, at these places in them; int32 [1], a zero."""
    shape = Shape.of(new_keys, keys)
    rows, kv_heads, _ = new_keys.shape
    inputs = {
        "new_keys": new_keys,
        "new_values": new_values,
        **dict(zip(pool_names(keys), (*keys, *values), strict=True)),
        "blocks": blocks,
        "offsets": offsets,
    }
    source = STORE_TOKENS.replace("STORING", STORE_QUANTIZED if shape.bits else STORE_WHOLE)
    (zero,) = portable.portable_kernel("paged_write", tuple(inputs), ("written",), source)(
        inputs=list(inputs.values()),
        template=[("T", new_keys.dtype), ("D", shape.size), ("BITS", shape.bits), ("THREADS", THREADS)],
        grid=(-(-2 * rows * kv_heads * 32 // THREADS) * THREADS, 1, 1),
        threadgroup=(THREADS, 1, 1),
        output_shapes=[(1,)],
        output_dtypes=[mx.int32],
    )
    return zero


def replace(array: mx.array, rows: mx.array, targets: mx.array) -> mx.array:
    """Rows along the first axis of an array are replaced; int32 [1], a zero."""
    flat = rows.reshape(rows.shape[0], -1)
    kernel = portable.portable_kernel("replace_rows", ("array", "rows", "targets"), ("written",), STORE_ROWS)
    (zero,) = kernel(
        inputs=[array, flat, targets],
        template=[("T", array.dtype), ("THREADS", THREADS)],
        grid=(-(-flat.size // THREADS) * THREADS, 1, 1),
        threadgroup=(THREADS, 1, 1),
        output_shapes=[(1,)],
        output_dtypes=[mx.int32],
    )
    return zero


def _rows(dtype: mx.Dtype) -> Iterator[Case]:
    array, rows = (
        mx.random.normal((count, 3, 100), key=mx.random.key(count)).astype(dtype) for count in (7, 2)
    )
    targets = mx.array([6, 2], mx.int32)
    expected = array[:]
    expected[targets] = rows
    mx.eval(expected)
    zero = replace(array, rows, targets)
    yield array[mx.arange(7) + zero], expected


REPLACE_ROWS = CheckedKernel("replace_rows", on_cuda, (mx.float32, *HALVES), _rows)


@cache
def checked(shape: Shape) -> CheckedKernel:
    """The kernel for a shape, compared with plain operations before it is used."""
    bits = f", {shape.bits} bits" if shape.bits else ""
    return CheckedKernel(
        f"paged_write ({shape.size}{bits})",
        on_cuda,
        (mx.float32, *HALVES),
        lambda dtype: _cases(shape, dtype),
    )


def _cases(shape: Shape, dtype: mx.Dtype) -> Iterator[Case]:
    rows, kv_heads, count = 5, 3, 9
    pools = [
        random_pool((count, kv_heads, shape.tokens, shape.size), seed, dtype, shape.bits, shape.group)
        for seed in (1, 2)
    ]
    new = [
        mx.random.normal((rows, kv_heads, shape.size), key=mx.random.key(seed)).astype(dtype)
        for seed in (3, 4)
    ]
    blocks, offsets = mx.array([1, 8, 3, 3, 5], mx.int32), mx.array([0, 31, 4, 5, 17], mx.int32)
    expected = []
    for pool, x in zip(pools, new, strict=True):
        parts = mx.quantize(x, shape.group, shape.bits) if shape.bits else [x]
        for array, part in zip(pool, parts, strict=True):
            right = array[:]
            right[blocks, :, offsets] = part
            expected.append(right)
    mx.eval(expected)
    zero = write(pools[0], pools[1], new[0], new[1], blocks, offsets)
    places = mx.arange(count) + zero
    for array, right in zip((*pools[0], *pools[1]), expected, strict=True):
        yield _numbers(array[places], shape.bits), _numbers(right, shape.bits)


def _numbers(x: mx.array, bits: int) -> mx.array:
    """Packed numbers one by one: their roundings may differ by one."""
    if x.dtype != mx.uint32:
        return x
    return (x[..., None] >> (mx.arange(32 // bits, dtype=mx.uint32) * bits)) & ((1 << bits) - 1)
