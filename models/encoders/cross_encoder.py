"""Queries and documents to relevance scores with a cross-encoder."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from models.embedding.batches import prefers_equal_lengths
from models.embedding.pair import Pair
from models.embedding.reranker import Reranker, RerankError
from models.encoders.classifiers import BertClassifier, ModernBertClassifier, RobertaClassifier
from models.encoders.embedder import padded
from models.encoders.load import EncoderModel

CLASSIFIERS = (BertClassifier, RobertaClassifier, ModernBertClassifier)
Activation = Callable[[mx.array], mx.array]
# By the names that sentence-transformers writes.
ACTIVATIONS: Mapping[str, Activation] = {
    "Sigmoid": mx.sigmoid,
    "Identity": lambda logits: logits,
}


class CrossEncoder(Reranker):
    def __init__(self, model: EncoderModel, token_budget: int = 8192) -> None:
        super().__init__(token_budget)
        network = model.network
        if not isinstance(network, CLASSIFIERS):
            raise RerankError(
                f"this model ({model.config['model_type']}) makes vectors and has no head for scores"
            )
        self._network = network
        self._tokenizer = model.tokenizer
        self._has_types = isinstance(network, BertClassifier) and network.config.type_vocab_size > 1
        self._activation = activation_of(model.config)
        self.equal_lengths = prefers_equal_lengths()

    def pair(self, query: str, document: str, limit: int, instruction: str | None = None) -> Pair:
        return Pair(*self._tokenizer.pair(query, document, limit))

    def score_batch(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        ids, lengths = padded([pair.ids for pair in pairs], self._network.padding)
        counts = mx.array(lengths) if min(lengths) < max(lengths) else None
        types = mx.array(padded([pair.types for pair in pairs], 0)[0]) if self._has_types else None
        logits = self._network.score(ids, counts, types).astype(mx.float32)
        return np.array(self._activation(logits))


def activation_of(config: Mapping[str, Any]) -> Activation:
    """What makes a score of a logit: the sigmoid, unless the checkpoint has another one of sentence-transformers'."""
    settings = config.get("sentence_transformers")
    settings = settings if isinstance(settings, Mapping) else {}
    named = settings.get("activation_fn") or config.get("sbert_ce_default_activation_function")
    if named is None:
        return mx.sigmoid
    kind = str(named).rsplit(".", 1)[-1]
    if kind not in ACTIVATIONS:
        raise RerankError(
            f"the checkpoint's activation_fn is {named!r}; {' and '.join(ACTIVATIONS)} are supported"
        )
    return ACTIVATIONS[kind]
