"""Decoding rows in caches of mlx-lm's kinds, padded to few lengths, and the cache of texts that have ended."""

from collections.abc import Sequence as Items

import mlx.core as mx

from models.language.batch.prefill import Prefill, Prefilled
from models.language.batch.sequence import Sequence
from models.language.cache.prefix_cache import PrefixCache
from models.language.decode.row_groups import RowGroups


class ContiguousRows:
    """Implements Rows. `capacity`: tokens in all; None: no limit."""

    def __init__(
        self, groups: RowGroups, prefix: PrefixCache, prefill: Prefill, capacity: int | None
    ) -> None:
        self._groups = groups
        self._prefix = prefix
        self._prefill = prefill
        self._capacity = capacity
        self._rows = 0

    @property
    def held_tokens(self) -> int:
        return self._groups.tokens + self._prefill.held_tokens

    def join(self, ready: Prefilled) -> None:
        self._groups.join(ready.cache, [len(row.tokens) for row in ready.rows])
        self._rows += len(ready.rows)

    def keep(self, rows: Items[int]) -> None:
        self._groups.keep(rows)
        self._rows = len(rows)

    def remember(self, index: int, row: Sequence) -> None:
        if self._prefix.max_bytes and not row.has_nan:
            self._prefix.insert(row.tokens, self._groups.extract(index), len(row.prompt))

    def logits(self, tokens: mx.array) -> mx.array:
        return self._groups.logits(tokens)

    def fits(self, lengths: Items[int]) -> bool:
        """One prompt that is alone always does."""
        alone = len(lengths) == 1 and not self._rows and not self._prefill.held_tokens
        if self._capacity is None or alone:
            return True
        return self._groups.tokens_with(lengths) + self._prefill.held_tokens <= self._capacity

    @property
    def overfull(self) -> bool:
        if self._capacity is None:
            return False
        return self._groups.tokens_after_step + self._prefill.held_tokens > self._capacity

    def clear(self) -> None:
        self._groups.clear()
        self._rows = 0
