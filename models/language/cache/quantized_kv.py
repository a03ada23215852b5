"""Quantized key-value caches in a batch whose rows join and leave.

mlx-lm can quantize the cache of one row, or batch unquantized caches; this module does both at once. Each token is
quantized on its own, so a row's values do not depend on other rows, nor on being merged, padded or extracted.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache, CacheList, KVCache, QuantizedKVCache, dynamic_roll

# Packed values, scales, biases: what attention expects from a cache that has `bits`.
Quantized = tuple[mx.array, ...]


class KVCacheNotQuantizable(ValueError):
    """The model's attention cannot read quantized keys and values."""


def quantized_row(cache: object, group_size: int, bits: int) -> object:
    """An empty row cache in which plain keys and values are replaced by quantized ones.

    Sliding windows and recurrent states are of bounded size and stay unchanged.
    """
    if isinstance(cache, CacheList):
        return CacheList(*(quantized_row(part, group_size, bits) for part in cache.caches))
    return QuantizedRowCache(group_size, bits) if type(cache) is KVCache else cache


def check_quantizable(model: Callable[..., mx.array], row: Sequence[object]) -> None:
    """Run one token through empty quantized caches: unsupported head sizes and attention layers raise an error at once."""
    try:
        mx.eval(model(mx.array([[0]]), cache=row))
    except (ValueError, AttributeError, TypeError, IndexError) as error:
        raise KVCacheNotQuantizable(
            f"this model's key-value cache cannot be quantized ({error}); omit --kv-bits"
        ) from error


class QuantizedRowCache(QuantizedKVCache):
    """One row, which can be merged into a batch."""

    @classmethod
    def merge(cls, rows: Sequence["QuantizedRowCache"]) -> "BatchQuantizedKVCache":
        return BatchQuantizedKVCache.merge(rows)

    def size(self) -> int:
        return self.offset

    @property
    def nbytes(self) -> int:
        return 0 if self.keys is None else super().nbytes


class BatchQuantizedKVCache(BatchKVCache):
    """Rows end at the same index and are left-padded; `keys` and `values` have room beyond that index."""

    # Quantized, or None while the cache is empty.
    keys: Any
    values: Any
    offset: mx.array
    left_padding: mx.array
    _idx: int
    _right_padding: mx.array | None

    def __init__(self, left_padding: Sequence[int], group_size: int = 64, bits: int = 8) -> None:
        super().__init__(left_padding)
        self.group_size = group_size
        self.bits = bits

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Quantized, Quantized]:
        new_keys, new_values = self._quantize(keys), self._quantize(values)
        start, end = self._idx, self._idx + keys.shape[2]
        if self.keys is None or end > self.keys[0].shape[2]:
            room = -(-keys.shape[2] // self.step) * self.step
            self.keys = _grown(self.keys, new_keys, start, room)
            self.values = _grown(self.values, new_values, start, room)
        for old, new in zip((*self.keys, *self.values), (*new_keys, *new_values), strict=True):
            old[..., start:end, :] = new
        self.offset = self.offset + keys.shape[2]
        self._idx = end
        return self.keys_and_values()

    def _quantize(self, x: mx.array) -> Quantized:
        return tuple(mx.quantize(x, group_size=self.group_size, bits=self.bits))

    def keys_and_values(self) -> tuple[Quantized, Quantized]:
        return _each(lambda x: x[..., : self._idx, :], self)

    def finalize(self) -> None:
        """Move the padding announced by `prepare` from the right to the left."""
        if self._right_padding is None:
            return
        padding = self._right_padding
        self.keys, self.values = _each(lambda x: dynamic_roll(x, padding[:, None], axis=2), self)
        self.offset = self.offset - padding
        self.left_padding = self.left_padding + padding
        self._right_padding = None

    def filter(self, batch_indices: Sequence[int] | mx.array) -> None:
        """Keep only these rows, in place, and drop their common padding."""
        self.offset = self.offset[batch_indices]
        self.left_padding = self.left_padding[batch_indices]
        paddings: Any = self.left_padding.tolist()
        shared: int = max(0, min(paddings))
        self.left_padding = self.left_padding - shared
        self._idx -= shared
        if self.keys is not None:
            self.keys, self.values = _each(lambda x: x[batch_indices][..., shared:, :], self)

    def extend(self, other: "BatchQuantizedKVCache") -> None:
        """Append the rows of `other`, in place."""
        _check_alike([self, other])
        end = max(self._idx, other._idx)
        filled = [cache for cache in (self, other) if cache.keys is not None]
        if filled:
            room = max(end, *(cache.keys[0].shape[2] for cache in filled))
            self.keys, self.values = _joined(
                _placed(cache, cache._idx, end, room)
                if cache.keys is not None
                else _blank(filled[0], cache.offset.size, room)
                for cache in (self, other)
            )
        self.left_padding = mx.concatenate(
            [self.left_padding + (end - self._idx), other.left_padding + (end - other._idx)]
        )
        self.offset = mx.concatenate([self.offset, other.offset])
        self._idx = end

    def extract(self, idx: int) -> QuantizedRowCache:
        """A copy of one row, without its padding."""
        row = QuantizedRowCache(self.group_size, self.bits)
        if self.keys is not None:
            paddings: Any = self.left_padding.tolist()
            padding: int = max(0, paddings[idx])
            row.keys, row.values = _each(
                lambda x: mx.contiguous(x[idx : idx + 1, :, padding : self._idx]), self
            )
            row.offset = self._idx - padding
        return row

    @classmethod
    def merge(cls, rows: Sequence[QuantizedRowCache]) -> "BatchQuantizedKVCache":
        """A batch of copies of the rows."""
        _check_alike(rows)
        end = max(row.offset for row in rows)
        if end == 0:
            return cls([0] * len(rows), rows[0].group_size, rows[0].bits)
        filled = next(row for row in rows if row.offset)
        batch = cls([end - row.offset for row in rows], filled.group_size, filled.bits)
        batch.keys, batch.values = _joined(
            _placed(row, row.offset, end, end) if row.offset else _blank(filled, 1, end) for row in rows
        )
        batch.offset = batch.offset + end
        batch._idx = end
        return batch

    @property
    def state(self) -> tuple[Any, ...]:
        return (*super().state, self.group_size, self.bits)

    @state.setter
    def state(self, value: tuple[Any, ...]) -> None:
        *base, self.group_size, self.bits = value
        self.keys, self.values, self.offset, self.left_padding, self._idx = base
        self._right_padding = None

    @property
    def nbytes(self) -> int:
        return 0 if self.keys is None else sum(x.nbytes for x in (*self.keys, *self.values))


def _each(change: Callable[[mx.array], mx.array], cache: Any) -> tuple[Quantized, Quantized]:
    return tuple(change(x) for x in cache.keys), tuple(change(x) for x in cache.values)


def _placed(cache: Any, length: int, end: int, room: int) -> tuple[Quantized, Quantized]:
    """Keys and values of that length, shifted to end at `end`, in arrays of length `room`."""
    around = [(0, 0), (0, 0), (end - length, room - end), (0, 0)]
    return _each(lambda x: mx.pad(x[..., :length, :], around), cache)


def _blank(like: Any, rows: int, room: int) -> tuple[Quantized, Quantized]:
    return _each(lambda x: mx.zeros((rows, x.shape[1], room, x.shape[3]), x.dtype), like)


def _joined(pieces: Iterable[tuple[Quantized, Quantized]]) -> tuple[Quantized, Quantized]:
    """The rows of all pieces as one batch."""
    keys, values = zip(*pieces, strict=True)
    return _stacked(keys), _stacked(values)


def _stacked(parts: Iterable[Quantized]) -> Quantized:
    return tuple(mx.concatenate(list(arrays)) for arrays in zip(*parts, strict=True))


def _grown(old: Quantized | None, new: Quantized, used: int, room: int) -> Quantized:
    """The used part of the old arrays, with room for `room` more columns."""
    blank = [mx.zeros((*x.shape[:2], room, x.shape[3]), x.dtype) for x in new]
    if old is None:
        return tuple(blank)
    return tuple(mx.concatenate([x[..., :used, :], more], axis=2) for x, more in zip(old, blank, strict=True))


def _check_alike(caches: Sequence[QuantizedRowCache | BatchQuantizedKVCache]) -> None:
    kinds = sorted({(cache.bits, cache.group_size) for cache in caches})
    if len(kinds) > 1:
        raise ValueError(f"caches of one batch must have the same bits and group size, not {kinds}")
