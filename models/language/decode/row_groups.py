"""Rows of very different lengths in groups, so that one long text does not make the others as long.

A backend pads its rows to the longest. Each new row joins the group that it pads least; if that is more than
`most_padding`, it gets a group of its own, at the price of one more forward pass a step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx

from models.language.cache.kv_cache import Cache
from models.language.decode.backend import DecodeBackend

GROWTH = 256  # tokens; caches grow in such blocks


@dataclass
class _Group:
    backend: DecodeBackend
    rows: list[int]  # their places in the batch
    lengths: list[int]

    @property
    def tokens(self) -> int:
        return padded(self.lengths)

    def padding_with(self, lengths: Sequence[int]) -> int:
        together = [*self.lengths, *lengths]
        return len(together) * max(together) - sum(together)


def padded(lengths: Sequence[int]) -> int:
    """Tokens that rows of these lengths take in one group."""
    return len(lengths) * (-(-(max(lengths) + 1) // GROWTH) * GROWTH) if lengths else 0


class RowGroups:
    """The decoding rows of a batch, spread over as many backends of the same network as their lengths need."""

    def __init__(self, new_backend: Callable[[], DecodeBackend], most_padding: int) -> None:
        """`most_padding`: tokens of padding in a group."""
        self._new_backend = new_backend
        self._most_padding = most_padding
        self._spare = [new_backend()]
        self._groups: list[_Group] = []
        self._order: mx.array | None = None  # from the groups' rows to the batch's; None: already in order

    @property
    def tokens(self) -> int:
        """Tokens for which keys and values are held, with padding."""
        return sum(group.tokens for group in self._groups)

    @property
    def tokens_after_step(self) -> int:
        return sum(padded([length + 1 for length in group.lengths]) for group in self._groups)

    def tokens_with(self, lengths: Sequence[int]) -> int:
        """Tokens that would be held if such rows joined, together."""
        group = self._group_for(lengths)
        if group is None:
            return self.tokens + padded(lengths)
        return self.tokens - group.tokens + padded([*group.lengths, *lengths])

    def join(self, cache: Cache, lengths: Sequence[int]) -> None:
        group = self._group_for(lengths)
        if group is None:
            group = _Group(self._spare.pop() if self._spare else self._new_backend(), [], [])
            self._groups.append(group)
        count = sum(len(other.rows) for other in self._groups)
        group.backend.join(cache, len(lengths))
        group.rows += range(count, count + len(lengths))
        group.lengths += lengths
        self._arrange()

    def _group_for(self, lengths: Sequence[int]) -> _Group | None:
        best = min(self._groups, key=lambda group: group.padding_with(lengths), default=None)
        if best is None or best.padding_with(lengths) > self._most_padding:
            return None
        return best

    def keep(self, rows: Sequence[int]) -> None:
        place = {row: index for index, row in enumerate(rows)}
        for group in self._groups:
            kept = sorted(
                (index for index, row in enumerate(group.rows) if row in place),
                key=lambda i: place[group.rows[i]],
            )
            if kept and kept != list(range(len(group.rows))):
                group.backend.keep(kept)
            elif not kept:
                group.backend.clear()
                self._spare.append(group.backend)
            group.rows = [place[group.rows[index]] for index in kept]
            group.lengths = [group.lengths[index] for index in kept]
        self._groups = [group for group in self._groups if group.rows]
        self._arrange()

    def extract(self, row: int) -> Cache:
        group = next(group for group in self._groups if row in group.rows)
        return group.backend.extract(group.rows.index(row))

    def logits(self, tokens: mx.array) -> mx.array:
        for group in self._groups:
            group.lengths = [length + 1 for length in group.lengths]
        if self._order is None:
            return self._groups[0].backend.logits(tokens)
        parts = [group.backend.logits(tokens[mx.array(group.rows)]) for group in self._groups]
        return mx.concatenate(parts)[self._order]

    def clear(self) -> None:
        for group in self._groups:
            group.backend.clear()
            self._spare.append(group.backend)
        self._groups = []
        self._order = None

    def _arrange(self) -> None:
        rows = [row for group in self._groups for row in group.rows]
        if len(self._groups) < 2:
            self._order = None
        else:
            self._order = mx.array(sorted(range(len(rows)), key=rows.__getitem__))
