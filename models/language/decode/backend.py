"""What holds the caches of rows that are not in blocks, and computes their decoding steps: `MlxLmBackend`."""

from collections.abc import Sequence
from typing import Protocol

import mlx.core as mx

from models.language.cache.kv_cache import Cache


class DecodeBackend(Protocol):
    """Holds the caches of the decoding rows, and runs the network over them."""

    def join(self, cache: Cache, rows: int) -> None:
        """Append the rows of `cache`, a single cache or a batch."""

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""

    def extract(self, row: int) -> Cache:
        """One row as a single cache, read-only."""

    def logits(self, tokens: mx.array) -> mx.array:
        """Append one token to each row; the next-token logits, [row, vocabulary]."""

    def clear(self) -> None:
        """Drop all rows."""
