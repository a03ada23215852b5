"""Log probabilities of sampled tokens."""

import math
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any, Self

import mlx.core as mx

from models.language.batch import sampling
from models.language.batch.sequence import Sequence, TokenLogprob


@dataclass
class PendingLogprobs:
    """Log probabilities of the sampled tokens, for the rows that request them; not evaluated before `read`."""

    rows: list[Sequence]
    chosen: mx.array
    ids: mx.array
    values: mx.array

    @classmethod
    def of(cls, batch: Items[Sequence], logits: mx.array, tokens: mx.array) -> Self | None:
        """For the logits and the sampled tokens of all rows of a batch; None if no row requests them."""
        indices = [i for i, row in enumerate(batch) if row.logprobs is not None]
        if not indices:
            return None
        rows = [batch[i] for i in indices]
        if len(rows) < len(batch):
            index = mx.array(indices)
            logits, tokens = logits[index], tokens[index]
        top = max(row.logprobs or 0 for row in rows)
        return cls(rows, *sampling.logprobs(logits, sampling.clamp(tokens, logits.shape[-1]), top))

    @property
    def arrays(self) -> list[mx.array]:
        return [self.chosen, self.ids, self.values]

    def read(self) -> dict[Sequence, TokenLogprob]:
        chosen: Any = self.chosen.tolist()
        ids: Any = self.ids.tolist()
        values: Any = self.values.tolist()
        return {
            row: TokenLogprob(chosen[i], likeliest(ids[i], values[i], row.logprobs))
            for i, row in enumerate(self.rows)
        }

    def without(self, gone: Items[Sequence]) -> Self | None:
        left = [i for i, row in enumerate(self.rows) if row not in gone]
        if not left:
            return None
        index = mx.array(left)
        return type(self)([self.rows[i] for i in left], *(array[index] for array in self.arrays))


def likeliest(ids: Items[int], values: Items[float], most: int | None) -> tuple[tuple[int, float], ...]:
    """The alternatives of a token, likeliest first, without those that a grammar or a bias rules out."""
    pairs = zip(ids, values, strict=True)
    return tuple((token, value) for token, value in pairs if value > -math.inf)[:most]
