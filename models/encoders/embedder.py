"""Texts to vectors with an encoder."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from models.embedding.batches import prefers_equal_lengths
from models.embedding.embedder import TextEmbedder, Vectors
from models.encoders.load import EncoderModel


class EncoderEmbedder(TextEmbedder):
    def __init__(self, model: EncoderModel, token_budget: int = 8192) -> None:
        super().__init__(model.folder, model.tokenizer, model.vocab, token_budget)
        self._network = model.network
        self.equal_lengths = prefers_equal_lengths()

    def embed_batch(self, texts: Sequence[Sequence[int]], prompt_tokens: int) -> Vectors:
        ids, lengths = padded(texts, self._network.padding)
        counts = mx.array(lengths)
        hidden = self._network(ids, counts if min(lengths) < max(lengths) else None)
        return np.array(self._head(hidden, counts, prompt_tokens))


def padded(texts: Sequence[Sequence[int]], filler: int) -> tuple[NDArray[np.int32], list[int]]:
    """Texts of different lengths as one array, and their lengths."""
    lengths = [len(text) for text in texts]
    ids = np.full((len(texts), max(lengths)), filler, np.int32)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = text
    return ids, lengths
