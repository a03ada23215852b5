"""Attention of prompts over keys and values in blocks, as one kernel for NVIDIA cards: texts end to end, each of any length.

    shape = Shape.of(queries, keys)
    if works(shape): attended = attention(queries, keys, values, tables, tiles(runs), scale)

Queries are [token, head, channel]; pools and tables as in `paged_attention`, a row of tables for each text. MLX's fused attention
takes a text at a time, copies its blocks, and makes a plan for each new length, which takes longer than reading a short prompt.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from models.kernels import nvrtc, paged_attention
from models.kernels.checked import HALVES, Case, CheckedKernel
from models.kernels.gpu import ours_compile
from models.kernels.paged_attention import Parts, Shape, random_pool
from models.kernels.prompt_source import PROMPT_ATTENTION

WARPS = 4
SIZES = (64, 96, 128, 256)  # of heads
PADDING = -1  # in place of a text


class Run(NamedTuple):
    """Successive tokens of a text: of which row of the tables, how many, and the place of the first."""

    text: int
    tokens: int
    first: int


def heads_together(heads: int) -> int:
    """Of so many query heads per key head, how many a threadgroup takes."""
    return next(size for size in (4, 2, 1) if heads % size == 0)


def tiles(runs: Sequence[Run], heads: int) -> NDArray[np.int32]:
    """What each threadgroup takes of runs that are end to end, [tile, (text, first row, tokens, first place)]; `heads`: query
    heads per key head."""
    most = 16 * WARPS // heads_together(heads)
    parts, begin = [], 0
    for text, count, first in runs:
        steps = np.arange(0, count, most, dtype=np.int32)
        part = np.empty((len(steps), 4), np.int32)
        part[:, 0], part[:, 1] = text, begin + steps
        part[:, 2], part[:, 3] = np.minimum(count - steps, most), first + steps
        parts.append(part)
        begin += count
    return np.concatenate(parts)


def works(shape: Shape) -> bool:
    """Whether the kernel may be used. The first call for a shape runs it, which is impossible while a step is traced."""
    return (
        shape.bits == 0 and shape.tokens == 32 and shape.size in SIZES and checked(shape).works(shape.dtype)
    )


def attention(
    queries: mx.array,
    keys: Parts,
    values: Parts,
    tables: mx.array,
    parts: mx.array,
    scale: float,
    *,
    window: int | None = None,
    sinks: mx.array | None = None,
    softcap: float | None = None,
) -> mx.array:
    """[token, head, channel]; each token sees those of its text up to itself. `parts`: what `tiles` returns; the rest as in
    `paged_attention`."""
    _, heads, size = queries.shape
    together = heads_together(heads // keys[0].shape[1])
    (attended,) = _kernel(scale, softcap)(
        inputs=[
            queries, keys[0], values[0], tables, parts, mx.zeros(1) if sinks is None else sinks.astype(mx.float32),
        ],
        template=[
            ("T", queries.dtype), ("HALF", queries.dtype == mx.float16), ("D", size), ("HG", together),
            ("WARPS", WARPS), ("WINDOW", window or 0), ("SINKS", sinks is not None),
        ],
        grid=(parts.shape[0] * 32 * WARPS, heads // together, 1),
        threadgroup=(32 * WARPS, 1, 1),
        output_shapes=[queries.shape],
        output_dtypes=[queries.dtype],
    )  # fmt: skip
    return attended


def _kernel(scale: float, softcap: float | None) -> Any:
    text = PROMPT_ATTENTION
    for word, number in (("SCALE", scale), ("CAP", softcap or 0.0)):
        text = text.replace(word, f"{number:.9e}f")
    return nvrtc.cuda_kernel(
        "prompt_attention", ("queries", "keys", "values", "tables", "tiles", "sinks"), ("attended",), text
    )


def _runs_here() -> bool:
    return ours_compile() and nvrtc.has_tensor_cores()


@cache
def checked(shape: Shape) -> CheckedKernel:
    """The kernel for a shape, compared with plain operations before it is used."""
    name = f"prompt_attention ({shape.heads} x {shape.size})"
    return CheckedKernel(name, _runs_here, HALVES, lambda dtype: _cases(shape, dtype))


def _cases(shape: Shape, dtype: mx.Dtype) -> Iterator[Case]:
    """A text from its beginning, one that goes on within a block, a single token, padding; with and without all options."""
    kv_heads, blocks, width = 2, 24, 7
    runs = [Run(0, 70, 0), Run(1, 37, 90), Run(2, 1, 5), Run(PADDING, 3, 0)]
    tables = np.array([[1 + (7 * text + 5 * at) % (blocks - 1) for at in range(width)] for text in range(3)])
    heads, scale = kv_heads * shape.heads, shape.size**-0.5
    count = sum(run.tokens for run in runs)
    queries = mx.random.normal((count, heads, shape.size), key=mx.random.key(1)).astype(dtype)
    size = (blocks, kv_heads, shape.tokens, shape.size)
    keys, values = (random_pool(size, seed, dtype, 0, 0) for seed in (2, 3))
    parts = mx.array(tiles(runs, shape.heads))
    by_row = mx.array(
        np.concatenate([np.repeat(tables[max(text, 0)][None], n, 0) for text, n, _ in runs]), mx.int32
    )
    ends = mx.array([first + at if text >= 0 else -1 for text, n, first in runs for at in range(n)], mx.int32)
    options: dict[str, Any] = {
        "window": 40, "softcap": 2.0, "sinks": mx.random.normal((heads,), key=mx.random.key(4)),
    }  # fmt: skip
    for more in ({}, options):
        ours = attention(queries, keys, values, mx.array(tables, mx.int32), parts, scale, **more)
        yield ours, paged_attention.plain(queries, keys, values, by_row, ends, scale, **more)
