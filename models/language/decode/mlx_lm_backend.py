"""Decoding by mlx-lm's network, with its own caches."""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from models.language.cache import kv_cache
from models.language.cache.kv_cache import Cache


class MlxLmBackend:
    """Implements DecodeBackend. A single row uses the cache that the model makes for one sequence."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.clear()

    def clear(self) -> None:
        self._cache: Cache = []
        self._rows = 0

    def join(self, cache: Cache, rows: int) -> None:
        if not self._rows:
            self._cache = cache
        else:
            if self._rows == 1:
                self._cache = kv_cache.merged([self._cache])
            kv_cache.extend(self._cache, kv_cache.merged([cache]) if rows == 1 else cache)
        self._rows += rows

    def keep(self, rows: Sequence[int]) -> None:
        if len(rows) == 1 and self._rows > 1:
            self._cache = kv_cache.extracted(self._cache, rows[0])
        elif self._rows > 1:
            kv_cache.keep(self._cache, list(rows))
        self._rows = len(rows)

    def extract(self, row: int) -> Cache:
        return self._cache if self._rows == 1 else kv_cache.extracted(self._cache, row)

    def logits(self, tokens: mx.array) -> mx.array:
        logits: mx.array = self._model(tokens[:, None], cache=self._cache)
        return logits[:, -1]
