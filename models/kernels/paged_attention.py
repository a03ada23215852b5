"""Attention over keys and values in blocks, for rows of one query token each, as a kernel for Metal and CUDA.

    shape = Shape.of(queries, keys)
    if works(shape): attended = attention(queries, keys, values, tables, ends, scale)     # else: plain

A pool of keys or values is one array [block, head, token, channel], or three of a quantized one: packed values, scales and
biases. `tables` [row, …] has the blocks of each row in order, `ends` the position of its query token, the last that it sees;
both are int32. Several query tokens of a text are rows with the same table. A row with the end -1 is padding and gets zeros.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import mlx.core as mx

from models.kernels import portable
from models.kernels.checked import HALVES, Case, CheckedKernel
from models.kernels.paged_source import (
    ATTENTION,
    JOIN,
    QUANTIZED_PARTS,
    WHOLE_PARTS,
    WRITE_PART,
    WRITE_WHOLE,
)

THREADS, JOINERS = 256, 128
LARGEST_HEAD = 256
# Query heads that a threadgroup computes together: limited by registers.
HEADS, HEADS_OF_WIDE = 8, 4
# Threadgroups that fill a card, and tokens that are worth one.
GROUPS, FEWEST_TOKENS = 528, 256

Parts = Sequence[mx.array]


class Shape(NamedTuple):
    """What a kernel is compiled for. `bits` is 0 if keys and values are not quantized."""

    size: int
    heads: int  # query heads per key head
    dtype: mx.Dtype
    tokens: int
    bits: int = 0
    group: int = 0

    @classmethod
    def of(cls, queries: mx.array, keys: Parts) -> "Shape":
        size = queries.shape[-1]
        _, kv_heads, tokens, _ = keys[0].shape
        bits, group = (
            (0, 0) if len(keys) == 1 else (keys[0].shape[-1] * 32 // size, size // keys[1].shape[-1])
        )
        return cls(size, queries.shape[1] // kv_heads, queries.dtype, tokens, bits, group)

    @property
    def together(self) -> int:
        """Query heads of a threadgroup."""
        wide = self.size > 128 or self.dtype == mx.float32
        return min(self.heads, HEADS_OF_WIDE if wide else HEADS)

    @property
    def chunks(self) -> int:
        """Threadgroups per key head."""
        return -(-self.heads // self.together)

    @property
    def supported(self) -> bool:
        whole = self.bits == 0 or (self.bits in (4, 8) and self.group % 8 == 0)
        # A block must be a whole number of rounds of the threads.
        return whole and self.size % 8 == 0 and self.size <= LARGEST_HEAD and self.tokens == 32


def works(shape: Shape) -> bool:
    """Whether the kernel may be used. The first call for a shape runs it, which is impossible while a step is traced."""
    return shape.supported and checked(shape).works(shape.dtype)


def attention(
    queries: mx.array,
    keys: Parts,
    values: Parts,
    tables: mx.array,
    ends: mx.array,
    scale: float,
    *,
    window: int | None = None,
    sinks: mx.array | None = None,
    softcap: float | None = None,
    splits: int | None = None,
) -> mx.array:
    """[row, head, channel] of queries [row, head, channel]. `window`: how many tokens a row sees at most; `sinks`: a score
    for each head that nothing belongs to; `softcap`: bounds scores; `splits`: how many threadgroups share a row's blocks."""
    shape = Shape.of(queries, keys)
    rows, count, size = queries.shape
    groups = keys[0].shape[1] * shape.chunks
    if splits is None:
        splits = default_splits(rows * groups, tables.shape[1] * shape.tokens)
    names = ("queries", *pool_names(keys), "tables", "ends")
    inputs = [queries, *keys, *values, tables, ends]
    template = [
        ("T", queries.dtype), ("D", size), ("ALL", shape.heads), ("G", shape.together), ("TOKENS", shape.tokens),
        ("THREADS", THREADS), ("WINDOW", window or 0), ("BITS", shape.bits), ("GROUP", shape.group),
    ]  # fmt: skip
    sinking = [("SINKS", sinks is not None)]
    floor = mx.zeros(1) if sinks is None else sinks.astype(mx.float32)
    grid, block = (rows * groups * THREADS, splits, 1), (THREADS, 1, 1)
    if splits == 1:
        kernel = _kernel(
            "paged_attention", (*names, "sinks"), ("attended",), WRITE_WHOLE, scale, softcap, shape.bits
        )
        (attended,) = kernel(
            inputs=[*inputs, floor], template=[*template, *sinking], grid=grid, threadgroup=block,
            output_shapes=[queries.shape], output_dtypes=[queries.dtype],
        )  # fmt: skip
        return attended
    kernel = _kernel(
        "paged_attention_part", names, ("part", "measure"), WRITE_PART, scale, softcap, shape.bits
    )
    part, measure = kernel(
        inputs=inputs, template=template, grid=grid, threadgroup=block,
        output_shapes=[(rows, count, splits, size), (rows, count, splits, 2)],
        output_dtypes=[mx.float32, mx.float32],
    )  # fmt: skip
    return _joined([part, measure, floor], queries, sinking)


def _joined(inputs: list[mx.array], queries: mx.array, sinking: list[tuple[str, bool]]) -> mx.array:
    """What the parts of each head's blocks give together."""
    rows, count, size = queries.shape
    join = portable.portable_kernel("paged_attention_join", ("part", "measure", "sinks"), ("attended",), JOIN)
    (attended,) = join(
        inputs=inputs,
        template=[("T", queries.dtype), ("D", size), ("JOINERS", JOINERS), *sinking],
        grid=(rows * count * JOINERS, 1, 1), threadgroup=(JOINERS, 1, 1),
        output_shapes=[queries.shape], output_dtypes=[queries.dtype],
    )  # fmt: skip
    return attended


def default_splits(groups: int, tokens: int) -> int:
    """Enough threadgroups to fill a card, none with few tokens."""
    return max(1, min(GROUPS // groups, tokens // FEWEST_TOKENS))


def pool_names(keys: Parts) -> tuple[str, ...]:
    """What kernels call the arrays of keys and values."""
    return tuple(
        pool + part for pool in ("keys", "values") for part in ("", "_scales", "_biases")[: len(keys)]
    )


def _kernel(
    name: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    write: str,
    scale: float,
    softcap: float | None,
    bits: int,
) -> Any:
    text = ATTENTION.replace("WRITE", write).replace("PARTS", QUANTIZED_PARTS if bits else WHOLE_PARTS)
    for word, number in (("SCALE", scale), ("CAP", softcap or 0.0)):
        text = text.replace(word, f"{number:.9e}f")
    return portable.portable_kernel(name, inputs, outputs, text)


def plain(
    queries: mx.array,
    keys: Parts,
    values: Parts,
    tables: mx.array,
    ends: mx.array,
    scale: float,
    *,
    window: int | None = None,
    sinks: mx.array | None = None,
    softcap: float | None = None,
) -> mx.array:
    """The same in MLX's own operations, in float32. Copies the blocks of all rows."""
    rows, count, size = queries.shape
    shape = Shape.of(queries, keys)
    k, v = (_gathered(pool, tables, shape) for pool in (keys, values))
    q = queries.astype(mx.float32).reshape(rows, -1, shape.heads, size) * scale
    # No matrix products: on cards, those of float32 are rounded to TF32.
    scores = (q[..., None, :] * k[:, :, None]).sum(axis=-1)
    if softcap:
        scores = mx.tanh(scores / softcap) * softcap
    at = mx.arange(scores.shape[-1], dtype=mx.int32)
    seen = at <= ends[:, None]
    if window:
        seen &= at > ends[:, None] - window
    scores = mx.where(seen[:, None, None], scores, -1e30)
    if sinks is not None:
        sink = mx.broadcast_to(
            sinks.astype(mx.float32).reshape(1, -1, shape.heads, 1), (*scores.shape[:-1], 1)
        )
        scores = mx.concatenate([scores, sink], axis=-1)
    weights = mx.softmax(scores, axis=-1)[..., : at.size] * seen[:, None, None]
    # What no row sees may be anything, NaN too.
    v = mx.where(seen[:, None, :, None], v, 0)
    attended = (weights[..., None] * v[:, :, None]).sum(axis=-2)
    return attended.reshape(rows, count, size).astype(queries.dtype)


def _gathered(pool: Parts, tables: mx.array, shape: Shape) -> mx.array:
    """[row, head, token, channel] of the blocks in the tables, in float32."""
    parts = [array[tables].swapaxes(1, 2).flatten(2, 3) for array in pool]
    if shape.bits:
        packed, scales, biases = parts
        scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
        return mx.dequantize(packed, scales, biases, shape.group, shape.bits)
    return parts[0].astype(mx.float32)


@cache
def checked(shape: Shape) -> CheckedKernel:
    """The kernel for a shape, compared with plain operations before it is used."""
    bits = f", {shape.bits} bits" if shape.bits else ""
    name = f"paged_attention ({shape.heads} x {shape.size}{bits})"
    return CheckedKernel(name, portable.runs_here, (mx.float32, *HALVES), lambda dtype: _cases(shape, dtype))


def _cases(shape: Shape, dtype: mx.Dtype) -> Iterator[Case]:
    """Rows that end within a block, at its first token and at its last; padding; one share and several; all
    options together."""
    rows, kv_heads, width, blocks = 5, 2, 7, 24
    places = [[1 + (7 * row + 5 * at) % (blocks - 1) for at in range(width)] for row in range(rows)]
    tables, ends = mx.array(places, mx.int32), mx.array([0, 95, 128, -1, 213], mx.int32)
    queries = _random((rows, kv_heads * shape.heads, shape.size), 1).astype(dtype)
    size = (blocks, kv_heads, shape.tokens, shape.size)
    keys, values = (random_pool(size, seed, dtype, shape.bits, shape.group) for seed in (2, 3))
    sinks = _random((kv_heads * shape.heads,), 4)
    options: dict[str, Any] = {"window": 40, "sinks": sinks, "softcap": 2.0}
    scale = shape.size**-0.5
    for more, splits in (({}, 1), ({}, 3), (options, 1)):
        expected = plain(queries, keys, values, tables, ends, scale, **more)
        yield (
            attention(queries, keys, values, tables, ends, scale, **more, splits=splits),
            expected,
        )


def random_pool(shape: tuple[int, ...], seed: int, dtype: mx.Dtype, bits: int, group: int) -> list[mx.array]:
    whole = _random(shape, seed).astype(dtype)
    return list(mx.quantize(whole, group, bits)) if bits else [whole]


def _random(shape: tuple[int, ...], seed: int) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed))
