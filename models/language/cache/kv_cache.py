"""Operations on key-value caches: copy, merge, extend, keep, extract. A cache is a list with one entry per layer.

A *single* cache is what the model makes for one sequence; a *batch* cache holds several rows. A batch of one row runs on
its single cache, without mask or padding, bit for bit as mlx-lm computes it.
"""

import copy
from collections.abc import Sequence
from typing import Any, TypeAlias

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models import cache as mlx_cache

Cache: TypeAlias = list[Any]


def copied(cache: Cache) -> Cache:
    """A copy that can grow without changing the original. Arrays are shared until one of the two is written to."""
    return [_copied(layer) for layer in cache]


def _copied(value: Any) -> Any:
    if isinstance(value, mx.array):
        return copy.copy(value)  # a new handle: writing through it does not change the original
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)
    if hasattr(value, "__dict__"):
        duplicate = copy.copy(value)
        duplicate.__dict__.update({name: _copied(item) for name, item in value.__dict__.items()})
        return duplicate
    return value


def batchable(cache: Cache) -> bool:
    """Whether rows with such caches can share a forward pass."""
    return all(_mergeable(layer) for layer in cache)


def plain(cache: Cache) -> bool:
    """Whether all layers keep unquantized keys and values of all tokens in order."""
    return all(type(layer) is mlx_cache.KVCache for layer in cache)


def _mergeable(layer: Any) -> bool:
    if isinstance(layer, mlx_cache.CacheList):
        return all(_mergeable(part) for part in layer.caches)
    return hasattr(layer, "merge")


def merged(caches: Sequence[Cache]) -> Cache:
    """A batch cache whose rows are these single caches."""
    return [layers[0].merge(list(layers)) for layers in zip(*caches, strict=True)]


def extend(batch: Cache, more: Cache) -> None:
    """Append the rows of one batch cache to another, in place."""
    for layer, extra in zip(batch, more, strict=True):
        layer.extend(extra)


def keep(batch: Cache, rows: list[int]) -> None:
    """Drop all other rows, in place."""
    for layer in batch:
        layer.filter(rows)


def extracted(batch: Cache, row: int) -> Cache:
    """One row as a single cache."""
    return [layer.extract(row) for layer in batch]


def arrays(cache: Cache) -> list[mx.array]:
    """All arrays of a cache: evaluating them makes it hold values instead of a graph."""
    leaves: list[Any] = tree_flatten([layer.state for layer in cache])  # type: ignore[assignment]
    return [leaf for _, leaf in leaves if isinstance(leaf, mx.array)]


def compact(cache: Cache) -> Cache:
    """The same content in separate arrays of minimal size, whose evaluation has been started.

    A slice keeps the whole batch alive, and caches grow in blocks, so caches that are kept for long are compacted.
    """
    compacted = copied(cache)
    for layer in compacted:
        _shrink(layer)
    mx.async_eval(arrays(compacted))
    return compacted


def _shrink(layer: Any) -> None:
    if isinstance(layer, mlx_cache.CacheList):
        for part in layer.caches:
            _shrink(part)
    elif isinstance(layer, mlx_cache.KVCache | mlx_cache.QuantizedKVCache) and layer.keys is not None:
        keys, values = layer.keys_and_values()
        layer.keys, layer.values = _own(keys), _own(values)
    elif getattr(layer, "keys", None) is not None:  # rotating caches: their layout is part of their state
        layer.keys, layer.values = _own(layer.keys), _own(layer.values)
    elif isinstance(layer, mlx_cache.ArraysCache):
        layer.cache = [None if item is None else _own(item) for item in layer.cache]


def _own(value: Any) -> Any:
    if isinstance(value, mx.array):
        # `contiguous`, or writing all of a new array, may return the parent's buffer; a product allocates.
        return value * 1
    return type(value)(_own(item) for item in value)


def trimmable(cache: Cache) -> bool:
    """Whether the last tokens can be removed again, which recurrent layers cannot do."""
    return bool(mlx_cache.can_trim_prompt_cache(cache))


def trim(cache: Cache, tokens: int) -> None:
    mlx_cache.trim_prompt_cache(cache, tokens)


def size_in_bytes(cache: Cache) -> int:
    return sum(array.nbytes for array in arrays(cache))


def bytes_per_token(cache: Cache) -> int:
    """What one more token takes in a cache that holds some already: nothing in layers of a fixed size."""
    return sum(_bytes_per_token(layer) for layer in cache)


def _bytes_per_token(layer: Any) -> int:
    if isinstance(layer, mlx_cache.CacheList):
        return sum(_bytes_per_token(part) for part in layer.caches)
    if not isinstance(layer, mlx_cache.KVCache | mlx_cache.QuantizedKVCache) or layer.keys is None:
        return 0
    arrays: list[Any] = tree_flatten([layer.keys, layer.values])  # type: ignore[assignment]
    return sum(array.nbytes // array.shape[2] for _, array in arrays)
