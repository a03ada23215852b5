"""What a reranker does, whatever network scores a pair of texts."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from models.embedding.batches import batches
from models.embedding.pair import Pair


class RerankError(ValueError):
    """A model that cannot score documents."""


class Reranker(ABC):
    """Created and used on the GPU thread, except `pair`, which any thread may call."""

    equal_lengths = False  # of the pairs in a batch
    takes_instruction = False

    def __init__(self, token_budget: int) -> None:
        self._token_budget = token_budget

    @abstractmethod
    def pair(self, query: str, document: str, limit: int, instruction: str | None = None) -> Pair:
        """The tokens of a query and a document, cut to the limit."""

    @abstractmethod
    def score_batch(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        """The scores of pairs that go through the network as one batch."""

    def steps(self, pairs: Sequence[Pair]) -> Iterator[dict[int, float]]:
        """Scores by index, a few pairs at a time."""
        lengths = [len(pair.ids) for pair in pairs]
        for batch in batches(lengths, self._token_budget, equal=self.equal_lengths):
            scores = self.score_batch([pairs[index] for index in batch])
            yield dict(zip(batch, map(float, scores), strict=True))
