"""Qwen3's rerankers: language models that are asked whether a document meets a query, and answer yes or no."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from models.config import read_json
from models.embedding.pair import Pair
from models.embedding.reranker import Reranker, RerankError
from models.language.embedding.model import TOKENS, hidden_states

BEGIN = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
END = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"


class AnswerReranker(Reranker):
    """The score is the probability of yes among the two answers."""

    takes_instruction = True

    def __init__(self, model: nn.Module, folder: Path, tokenizer: Any, token_budget: int = TOKENS) -> None:
        super().__init__(token_budget)
        self._model = model
        self._hidden = hidden_states(model, read_json(folder / "config.json"))
        self._tokenizer = tokenizer
        self._begin, self._end = self._encode(BEGIN), self._encode(END)
        self._answers = mx.array([self._answer("no"), self._answer("yes")])

    def pair(self, query: str, document: str, limit: int, instruction: str | None = None) -> Pair:
        text = f"<Instruct>: {instruction or INSTRUCTION}\n<Query>: {query}\n<Document>: {document}"
        room = max(limit - len(self._begin) - len(self._end), 0)
        ids = [*self._begin, *self._encode(text)[:room], *self._end]
        return Pair(ids, [0] * len(ids))

    def score_batch(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        """Rows are right-padded, which does not affect causal models."""
        lengths = [len(pair.ids) for pair in pairs]
        tokens = mx.array([[*pair.ids, *[0] * (max(lengths) - len(pair.ids))] for pair in pairs])
        last = self._hidden(tokens)[mx.arange(len(pairs)), mx.array(lengths) - 1]
        logits = self._head(last)[:, self._answers].astype(mx.float32)
        return np.array(mx.softmax(logits, axis=-1)[:, 1])

    def _head(self, hidden: mx.array) -> mx.array:
        if "lm_head" in self._model:
            return self._model.lm_head(hidden)
        return self._model.model.embed_tokens.as_linear(hidden)

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _answer(self, word: str) -> int:
        ids = self._encode(word)
        if len(ids) != 1:
            raise RerankError(
                f"{word!r} has to be one token of a reranker; in this tokenizer it is {len(ids)}"
            )
        return ids[0]
