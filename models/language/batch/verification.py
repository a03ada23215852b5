"""Verifies drafted tokens: every position is sampled as it would be without drafts, by the row's own options.

A draft is accepted if the row's sampler draws the same token there, with the random numbers of that position and with
penalties and grammar that take the drafts before it into account. Texts are therefore the same with drafts as without.
"""

from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from models.language.batch import sampling
from models.language.batch.emission import Mask, everything, grammar_failed, next_mask
from models.language.batch.logprobs import likeliest
from models.language.batch.sampling import Sampler
from models.language.batch.sequence import Sequence, TokenLogprob


@dataclass(eq=False)
class Run:
    """What one row is fed in a step: its pending token and drafts for those after it."""

    row: Sequence
    tokens: list[int]
    masks: list[Mask | None]  # what its grammar allows after each of them; None: everything
    error: str | None = None

    @classmethod
    def of(cls, row: Sequence, pending: int, drafts: Items[int]) -> "Run":
        """Without drafts that can't be right: those beyond the end, and what the grammar forbids."""
        left = max(row.max_tokens - row.generated - 1, 0)
        tokens: list[int] = []
        for draft in drafts[:left]:
            if draft in row.stop_tokens:
                break
            tokens.append(draft)
        run = cls(row, [pending, *tokens], [None] * (len(tokens) + 1))
        return run if row.matcher is None else run._allowed()

    def _allowed(self) -> "Run":
        matcher = self.row.matcher
        assert matcher is not None
        masks: list[Mask | None] = []
        accepted = 0
        try:
            for token in [*self.tokens[1:], None]:
                mask = next_mask(matcher)
                masks.append(mask)
                if token is None or not mask[token // 32] >> np.uint32(token % 32) & np.uint32(1):
                    break
                matcher.accept(token)
                accepted += 1
                if matcher.finished:
                    masks.append(None)  # nothing is drawn after the end
                    break
        except Exception as error:  # a grammar error ends its own request only, once it gets there
            if not masks:
                self.error = grammar_failed(error)
                masks.append(None)
        if accepted:
            matcher.rewind(accepted)
        self.masks = masks
        self.tokens = self.tokens[: len(masks)]
        return self

    @property
    def drafts(self) -> list[int]:
        return self.tokens[1:]

    def history(self, at: int) -> list[int]:
        """The tokens before this one, as far back as the row's penalties look."""
        options = self.row.sampling
        if not options.penalizes:
            return []
        before = self.row.tokens if options.repeat_last_n < 0 else self.row.tokens[-options.repeat_last_n :]
        return [*before, *self.tokens[:at]]

    def drawn(self, at: int) -> int:
        """How many tokens the row has drawn before the one after this place."""
        return len(self.row.tokens) + at + 1 - len(self.row.prompt)


@dataclass
class Checked:
    """The tokens that a row has drawn: the drafts that were right, and one more."""

    run: Run
    tokens: list[int]
    logprobs: list[TokenLogprob | None]

    @property
    def right(self) -> int:
        return len(self.tokens) - 1


def check(runs: Items[Run], logits: mx.array, vocab: int) -> list[Checked]:
    """`logits` [token, vocabulary] of all tokens of the runs, one after another. Waits for the device."""
    places = [(run, at) for run in runs for at in range(len(run.tokens))]
    inputs = mx.array([run.tokens[at] for run, at in places], dtype=mx.uint32)
    if any(mask is not None for run in runs for mask in run.masks):
        logits = sampling.apply_bitmask(logits, _masks(runs, vocab))
    sampler = Sampler(
        [run.row.sampling for run, _ in places],
        [run.history(at) for run, at in places],
        [run.drawn(at) for run, at in places],
        vocab,
        lifetime=1,
    )
    drawn = sampler(logits, inputs)
    logprobs = _Logprobs(places, logits, drawn)
    mx.eval(drawn, logprobs.arrays)
    tokens: Any = drawn.tolist()
    checked, begin = [], 0
    for run in runs:
        own = tokens[begin : begin + len(run.tokens)]
        right = _right(run.drafts, own)
        read = [logprobs.read(begin + at) for at in range(right + 1)]
        checked.append(Checked(run, own[: right + 1], read))
        begin += len(run.tokens)
    return checked


def _right(drafts: Items[int], drawn: Items[int]) -> int:
    return next((at for at, draft in enumerate(drafts) if draft != drawn[at]), len(drafts))


def _masks(runs: Items[Run], vocab: int) -> Mask:
    free = everything(vocab)
    return np.stack([free if mask is None else mask for run in runs for mask in run.masks])


class _Logprobs:
    """Of the places whose rows request them."""

    def __init__(self, places: Items[tuple[Run, int]], logits: mx.array, drawn: mx.array) -> None:
        at = [index for index, (run, _) in enumerate(places) if run.row.logprobs is not None]
        self._alternatives = {index: places[index][0].row.logprobs for index in at}
        self._index = {index: order for order, index in enumerate(at)}
        self.arrays: tuple[mx.array, ...] = ()
        if at:
            most = max(count or 0 for count in self._alternatives.values())
            chosen = mx.array(at)
            tokens = sampling.clamp(drawn[chosen], logits.shape[-1])
            self.arrays = sampling.logprobs(logits[chosen], tokens, most)

    def read(self, place: int) -> TokenLogprob | None:
        if place not in self._index:
            return None
        row: list[Any] = [array[self._index[place]].tolist() for array in self.arrays]
        chosen, ids, values = row
        return TokenLogprob(chosen, likeliest(ids, values, self._alternatives[place]))
