"""Keys and values of a batch, one slot per row; each row has its own first and last column.

There may be more slots than rows, because a step is compiled for each shape. The arrays are owned exclusively by this
object. A step writes in place to the first unused column of each row, which concurrent readers of the row never look at.
"""

from collections.abc import Callable, Sequence

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache, KVCache

from models.language.cache.kv_cache import Cache
from models.language.decode.reference_ops import Columns

GROWTH = 256  # columns
LAYERS_AT_ONCE = 4  # copied at a time: old and new arrays are in memory meanwhile


class Slots:
    def __init__(self, layers: int, heads: int, size: int, dtype: mx.Dtype) -> None:
        self._layers, self._heads, self._size, self._dtype = layers, heads, size, dtype
        self.columns: Columns
        self.clear()

    def another(self) -> "Slots":
        """Of the same shape, without rows."""
        return Slots(self._layers, self._heads, self._size, self._dtype)

    def clear(self) -> None:
        self._starts: list[int] = []  # of each row
        self._ends: list[int] = []
        self.count = self._length = 0
        self.keys = [self._blank(0, 0) for _ in range(self._layers)]
        self.values = [self._blank(0, 0) for _ in range(self._layers)]
        self._locate()

    def join(self, cache: Cache, rows: int) -> None:
        """Append one row, or the rows of one of mlx-lm's batch caches."""
        first, before = cache[0], len(self._ends)
        batch = isinstance(first, BatchKVCache)
        end = first._idx if batch else first.offset
        self._starts += first.left_padding.tolist() if batch else [0]
        self._ends += [end] * rows
        self._resize(slots_for(before + rows), max(self._ends) + 1)
        for layer, keys, values in zip(cache, self.keys, self.values, strict=True) if end else ():
            keys[before : before + rows, :, :end] = layer.keys[:, :, :end]
            values[before : before + rows, :, :end] = layer.values[:, :, :end]
        self._locate()

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order. Drops columns that only the others needed, if they are half of all or more."""
        count, first = slots_for(len(rows)), min(self._starts[row] for row in rows)
        needed = _rounded(max(self._ends[row] for row in rows) + 1 - first)
        if 2 * needed <= self._length:
            first, length = min(first, self._length - needed), needed
        else:
            first, length = 0, self._length
        if (list(rows), count, length) != (list(range(len(rows))), self.count, self._length):
            indices = mx.array([*rows, *[0] * (count - len(rows))])
            self._each(lambda x: x[indices, :, first : first + length])
        self._starts = [self._starts[row] - first for row in rows]
        self._ends = [self._ends[row] - first for row in rows]
        self.count, self._length = count, length
        self._locate()

    def extract(self, row: int) -> Cache:
        """A row as mlx-lm's caches: views of columns that will not be written again."""
        columns = (slice(row, row + 1), slice(None), slice(self._starts[row], self._ends[row]))
        cache = [KVCache() for _ in range(self._layers)]
        for layer, keys, values in zip(cache, self.keys, self.values, strict=True):
            layer.keys, layer.values = keys[columns], values[columns]
            layer.offset = self._ends[row] - self._starts[row]
        return cache

    def make_room(self) -> None:
        """Make room for one more token in each row."""
        self._resize(self.count, max(self._ends) + 1)

    def advance(self, ends: mx.array, keys: list[mx.array], values: list[mx.array]) -> None:
        """One more token of each row has been written."""
        self._ends = [end + 1 for end in self._ends]
        self.columns = Columns(self.columns.starts, ends)
        self.keys, self.values = keys, values

    def _resize(self, count: int, length: int) -> None:
        length = max(self._length, _rounded(length))
        if (count, length) == (self.count, self._length):
            return
        self.count, self._length = count, length

        def larger(x: mx.array) -> mx.array:
            blank = self._blank(count, length)
            if x.size:
                copied = min(count, x.shape[0])
                blank[:copied, :, : x.shape[2]] = x[:copied]
            return blank

        self._each(larger)
        self._locate()

    def _each(self, change: Callable[[mx.array], mx.array]) -> None:
        for arrays in (self.keys, self.values):
            for at in range(self._layers):
                arrays[at] = change(arrays[at])
                if at % LAYERS_AT_ONCE == LAYERS_AT_ONCE - 1:
                    mx.eval(arrays[at - LAYERS_AT_ONCE + 1 : at + 1])

    def _blank(self, count: int, length: int) -> mx.array:
        return mx.zeros((count, self._heads, length, self._size), self._dtype)

    def _locate(self) -> None:
        """Upload the first and last columns of the rows; a slot without a row gets column 0."""
        free = [0] * (self.count - len(self._ends))
        self.columns = Columns(
            mx.array([*self._starts, *free], dtype=mx.int32), mx.array([*self._ends, *free], dtype=mx.int32)
        )


def _rounded(length: int) -> int:
    return -(-length // GROWTH) * GROWTH


def slots_for(rows: int) -> int:
    """How many slots are used: 1, 2, 4, then multiples of 8."""
    return next((few for few in (1, 2, 4) if rows <= few), -(-rows // 8) * 8)
