"""A smaller language model that drafts tokens, with its own keys and values in blocks.

It draws with the random numbers that the large model uses for the same tokens, so that sampled drafts are accepted about as
often as the two models agree. Rejected tokens are rewound before the next draft.
"""

from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from models.language.batch import sampling
from models.language.batch.sampling import NO_TOKEN, Sampler
from models.language.batch.sequence import Sequence
from models.language.batch.verification import Run
from models.language.build import LoadError
from models.language.load import LanguageModel
from models.language.paged.blocks import OutOfBlocks
from models.language.paged.network import PagedNetwork
from models.language.paged.table import TRASH, Table

# Tokens of texts that are read in one call: a long prompt is read over several steps, in which nothing is drafted for it.
CHUNK = 512


@dataclass(eq=False)
class _Text:
    """What the draft model has been fed of a sequence: `tokens`, of which the first `sure` were accepted."""

    table: Table
    tokens: list[int] = field(default_factory=list)
    sure: int = 0


class DraftModel:
    """Drafts for a model with a vocabulary of `vocab` tokens. `tokens`: for how many there is memory."""

    def __init__(self, model: LanguageModel, vocab: int, tokens: int) -> None:
        network = PagedNetwork.of(model.model, model.new_cache, tokens, 2**62)
        if network is None:
            raise LoadError(f"{model.name} cannot draft: its keys and values cannot be kept in blocks")
        self._network = network
        self._vocab = vocab
        self._own_vocab = model.vocab
        self._context = model.context
        self._texts: dict[Sequence, _Text] = {}

    def propose(self, rows: Items[Sequence], pending: Items[int], counts: Items[int]) -> list[list[int]]:
        """The next tokens of each row, up to so many of each; none for a row whose text has not been read yet."""
        ready, budget, most = [], CHUNK, max(counts)
        for index, (row, token) in enumerate(zip(rows, pending, strict=True)):
            if len(row.tokens) + most >= self._context:
                continue
            text = self._text(row)
            missing = self._missing(text, row, token)
            if len(missing) > budget:
                self._read(text, row, missing[:budget])
                budget = 0
            elif self._has_room(text, len(missing) + most):
                ready.append((index, Run(row, [token], [None]), missing))
                budget -= len(missing)
        drafts: list[list[int]] = [[] for _ in rows]
        if ready:
            for (index, _, _), draft in zip(ready, self._draft(ready, most), strict=True):
                drafts[index] = draft[: counts[index]]
        return drafts

    @property
    def held_tokens(self) -> int:
        return self._network.held_tokens

    def forget(self, row: Sequence) -> None:
        text = self._texts.pop(row, None)
        if text is not None:
            self._network.manager.rewind(text.table, min(text.sure, text.table.length))
            self._network.close(text.table, text.tokens[: text.table.length], sound=True)

    def _text(self, row: Sequence) -> _Text:
        if row not in self._texts:
            table, copies = self._network.manager.open(row.prompt)
            self._network.pool.reserve(self._network.manager.touched)
            self._network.pool.copy(copies)
            self._texts[row] = _Text(table, row.prompt[: table.length], table.length)
        return self._texts[row]

    def _missing(self, text: _Text, row: Sequence, pending: int) -> list[int]:
        """The tokens that have not been fed yet, at least the pending one. What was fed and not accepted is rewound."""
        at, end = text.sure, min(len(text.tokens), len(row.tokens))
        while at < end and text.tokens[at] == row.tokens[at]:
            at += 1
        self._network.manager.rewind(text.table, at)
        del text.tokens[at:]
        text.sure = at
        return [*row.tokens[at:], pending]

    def _has_room(self, text: _Text, more: int) -> bool:
        try:
            self._network.manager.extend(text.table, text.table.length + more)
        except OutOfBlocks:
            return False
        return True

    def _read(self, text: _Text, row: Sequence, tokens: list[int]) -> None:
        if tokens and self._has_room(text, len(tokens)):
            self._network.feed(
                [self._known(tokens)], [text.table.blocks], [text.table.length], [len(row.prompt)]
            )
            self._network.evaluate()
            self._advance(text, tokens)
            text.sure = text.table.length
            self._network.manager.register(text.table, text.tokens)

    def _draft(self, ready: list[tuple[int, Run, list[int]]], count: int) -> list[list[int]]:
        runs = [run for _, run, _ in ready]
        texts = [self._texts[run.row] for run in runs]
        sampler = Sampler(
            [run.row.sampling for run in runs],
            [run.history(0) for run in runs],
            [run.drawn(0) for run in runs],
            self._vocab,
            lifetime=count,
        )
        missing = [tokens for _, _, tokens in ready]
        fed = mx.array([tokens[-1] for tokens in missing], dtype=mx.uint32)
        ends = mx.array(np.cumsum([len(tokens) for tokens in missing]) - 1)
        feed = [self._known(tokens) for tokens in missing]
        logits = self._network.logits_of_runs(feed, self._tables(texts), self._first(texts))[ends]
        for text, tokens in zip(texts, missing, strict=True):
            self._advance(text, tokens)
            text.sure = text.table.length
        drawn: list[mx.array] = []
        for step in range(count):
            if step:
                fed = sampling.clamp(drawn[-1], self._own_vocab)
                logits = self._network.logits(fed[:, None], self._tables(texts), self._first(texts))[:, 0]
                for text in texts:
                    text.table.length += 1
            drawn.append(sampler(self._widened(logits), fed))
        drafts: Any = mx.stack(drawn, axis=1).tolist()
        for text, draft in zip(texts, drafts, strict=True):
            text.tokens += draft[: count - 1]
        return [draft[: draft.index(NO_TOKEN)] if NO_TOKEN in draft else draft for draft in drafts]

    def _advance(self, text: _Text, tokens: list[int]) -> None:
        text.tokens += tokens
        text.table.length += len(tokens)

    def _first(self, texts: Items[_Text]) -> np.ndarray[Any, np.dtype[np.int32]]:
        return np.array([text.table.length for text in texts], np.int32)

    def _tables(self, texts: Items[_Text]) -> np.ndarray[Any, np.dtype[np.int32]]:
        tables = np.full((len(texts), max(len(text.table.blocks) for text in texts)), TRASH, np.int32)
        for at, text in enumerate(texts):
            tables[at, : len(text.table.blocks)] = text.table.blocks
        return tables

    def _known(self, tokens: list[int]) -> list[int]:
        """Tokens beyond the vocabulary, which may be smaller than the large model's, would crash the process."""
        return [min(token, self._own_vocab - 1) for token in tokens]

    def _widened(self, logits: mx.array) -> mx.array:
        """With the width of the large model's, on which the random numbers depend."""
        more = self._vocab - logits.shape[-1]
        if more > 0:
            return mx.pad(logits, [(0, 0), (0, more)], constant_values=-mx.inf)
        return logits[:, : self._vocab]


def check_tokenizer(model: LanguageModel, draft: LanguageModel) -> None:
    """LoadError if the two models do not have the same tokens."""
    own, other = _tokens(model), _tokens(draft)
    for id in sorted(own.keys() & other.keys()):
        if own[id] != other[id]:
            raise LoadError(
                f"{draft.name} cannot draft for {model.name}, because their tokenizers differ: token {id} is "
                f"{other[id]!r} in one and {own[id]!r} in the other"
            )


def _tokens(model: LanguageModel) -> dict[int, str]:
    return {id: token for token, id in model.tokenizer.get_vocab().items()}
