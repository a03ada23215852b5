"""Caches of earlier prompts and answers, reused for prompts with a common prefix. Bounded in bytes, evicts the least recently used."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.language.cache import kv_cache
from models.language.cache.kv_cache import Cache

Tokens = npt.NDArray[np.int64]

MAX_ENTRIES = 1024


@dataclass(eq=False)
class _Entry:
    tokens: Tokens
    cache: Cache
    long: bool
    bytes: int = field(init=False)
    trimmable: bool = field(init=False)

    def __post_init__(self) -> None:
        self.bytes = kv_cache.size_in_bytes(self.cache) + self.tokens.nbytes
        self.trimmable = kv_cache.trimmable(self.cache)


def _shared(a: Tokens, b: Tokens) -> int:
    """The length of the common prefix."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


class PrefixCache:
    """Entries keyed by their tokens. `fetch` returns a copy; `insert` stores a compacted copy.

    `switches_at`: beyond this length the model computes all of a prompt differently, so long prompts cannot reuse the
    entries of short ones.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.switches_at: int | None = None
        self.bytes = 0
        self._entries: list[_Entry] = []  # least recently used first

    def __len__(self) -> int:
        return len(self._entries)

    def fetch(self, tokens: Sequence[int]) -> tuple[Cache | None, int]:
        """A cache of the longest stored prefix of `tokens`, and its length.

        At least one token is always left over, because the model needs an input to predict the next token.
        """
        key = np.asarray(tokens, dtype=np.int64)
        best, covered = None, 0
        long = self._is_long(len(tokens))
        for entry in self._entries:
            if entry.long is not long:
                continue
            usable = min(_shared(entry.tokens, key), len(key) - 1)
            if not entry.trimmable and usable < len(entry.tokens):
                continue
            if usable > covered:
                best, covered = entry, usable
        if best is None:
            return None, 0
        self._entries.remove(best)
        self._entries.append(best)
        cache = kv_cache.copied(best.cache)
        if covered < len(best.tokens):
            kv_cache.trim(cache, len(best.tokens) - covered)
        return cache, covered

    def insert(self, tokens: Sequence[int], cache: Cache, prompt: int = 0) -> None:
        """Store the cache of exactly these tokens, computed for a prompt of length `prompt`. Drops shorter entries that it
        covers."""
        long = self._is_long(prompt)
        if not self.max_bytes or not len(tokens) or (not long and self._is_long(len(tokens))):
            return
        key = np.asarray(tokens, dtype=np.int64)
        if self._covers(key, long):
            return
        # Do not copy what cannot fit: arrays grow in blocks, so the compact size is at least half of this.
        if kv_cache.size_in_bytes(cache) > 2 * self.max_bytes:
            return
        entry = _Entry(key, kv_cache.compact(cache), long)
        if entry.bytes > self.max_bytes:
            return
        if entry.trimmable:
            covered = [e for e in self._entries if e.long is long and _shared(e.tokens, key) == len(e.tokens)]
            for old in covered:
                self._drop(old)
        self._entries.append(entry)
        self.bytes += entry.bytes
        while self.bytes > self.max_bytes or len(self._entries) > MAX_ENTRIES:
            self._drop(self._entries[0])

    def _is_long(self, length: int) -> bool:
        return self.switches_at is not None and length > self.switches_at

    def _covers(self, key: Tokens, long: bool) -> bool:
        for entry in self._entries:
            if entry.long is not long:
                continue
            same = len(entry.tokens) == len(key) or (entry.trimmable and len(entry.tokens) > len(key))
            if same and _shared(entry.tokens, key) == len(key):
                self._entries.remove(entry)
                self._entries.append(entry)
                return True
        return False

    def _drop(self, entry: _Entry) -> None:
        self._entries.remove(entry)
        self.bytes -= entry.bytes

    def clear(self) -> None:
        self._entries.clear()
        self.bytes = 0
