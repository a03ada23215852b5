"""What is kept of a batch holds its own memory, and none of the batch's."""

import gc
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, QuantizedKVCache, RotatingKVCache

from models.language.batch.options import Sampling
from models.language.batch.sequence import Sequence
from models.language.cache import kv_cache
from models.language.cache.prefix_cache import PrefixCache
from models.language.paged.network import PagedNetwork
from tests.models.language.batch.test_batch import Batch, LanguageModel, model, prompt

__all__ = ["model"]  # a fixture

ROWS, COLUMNS, SIZE = 16, 512, 64


def held() -> int:
    mx.synchronize()
    gc.collect()
    return int(mx.get_active_memory())


def of_a_batch() -> mx.array:
    """A row, and of that the columns that are in use: a view of many times its size."""
    whole = mx.random.normal((ROWS, 2, COLUMNS, SIZE))
    mx.eval(whole)
    return whole[3:4, :, 20:60]


def plain() -> KVCache:
    cache = KVCache()
    cache.keys, cache.values, cache.offset = of_a_batch(), of_a_batch(), 40
    return cache


def quantized() -> QuantizedKVCache:
    cache = QuantizedKVCache(group_size=32, bits=8)
    whole = [mx.quantize(mx.random.normal((ROWS, 2, COLUMNS, SIZE)), 32, 8) for _ in range(2)]
    mx.eval(whole)
    cache.keys, cache.values = (tuple(part[3:4, :, 20:60] for part in parts) for parts in whole)
    cache.offset = 40
    return cache


def rotating() -> RotatingKVCache:
    cache = RotatingKVCache(max_size=64)
    cache.keys, cache.values, cache.offset = of_a_batch(), of_a_batch(), 40
    cache._idx = 40
    return cache


def recurrent() -> ArraysCache:
    cache = ArraysCache(2)
    cache.cache = [of_a_batch(), None]
    return cache


@pytest.mark.parametrize(
    "make", [plain, quantized, rotating, recurrent, lambda: CacheList(plain(), recurrent())]
)
def test_a_compact_cache_lets_the_batch_go(make: Callable[[], Any]) -> None:
    before = held()
    cache = [make(), make()]
    copies = [mx.array(array.tolist()) for array in kv_cache.arrays(cache)]
    kept = kv_cache.compact(cache)
    size = kv_cache.size_in_bytes(kept)
    assert all(mx.array_equal(x, y) for x, y in zip(kv_cache.arrays(kept), copies, strict=True))
    assert [x.dtype for x in kv_cache.arrays(kept)] == [x.dtype for x in kv_cache.arrays(cache)]
    del cache, copies
    assert held() - before < 2 * size  # the batch is a hundred times as large


def test_of_sequences_that_ended_no_more_is_held_than_is_counted(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PagedNetwork, "of", lambda *limits: None)
    prefix = PrefixCache(10**9)
    batch = Batch(model.model, model.vocab, model.new_cache, prefix, 16)

    def write(seeds: range) -> None:
        for seed in seeds:
            batch.add(Sequence(seed, prompt(model, seed, 8 + seed % 30), 2 + seed % 7, Sampling()))
        while batch.busy:
            batch.step()

    write(range(9))  # what is made once
    batch.clear()
    before = held()
    write(range(20, 44))
    assert len(prefix) >= 20
    assert held() - before <= 1.1 * prefix.bytes + 200_000
