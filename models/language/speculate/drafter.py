"""Drafts for the rows of a batch: from what their texts repeat, or by a draft model; as many as pay off."""

from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Protocol

from models.language.batch.sequence import Sequence
from models.language.speculate.lookup import Lookup
from models.language.speculate.policy import Policy, Price


class Model(Protocol):
    """What a draft model does for the drafter."""

    def propose(self, rows: Items[Sequence], pending: Items[int], counts: Items[int]) -> list[list[int]]:
        """The next tokens of each row, so many of each."""

    def forget(self, row: Sequence) -> None: ...


@dataclass
class _Row:
    policy: Policy
    lookup: Lookup | None


class RowDrafter:
    """Implements Drafter. Looks a text up first, and asks the draft model where nothing is repeated."""

    def __init__(self, model: Model | None = None, price: Price | None = None) -> None:
        self._model = model
        self._price = price or Price()
        self._rows: dict[Sequence, _Row] = {}

    def due(self, rows: Items[Sequence]) -> bool:
        price = self._price.of(len(rows))
        due = False
        for row in rows:
            state = self._state(row)
            if state is None:
                continue
            state.policy.pause()
            if state.policy.resting or not state.policy.tokens(price):
                continue
            if row.drafting.model and self._model is not None:
                due = True
            elif state.lookup is not None:
                state.lookup.take(row.tokens, len(row.prompt))
                due |= bool(state.lookup.draft(1))
        return due

    def propose(self, rows: Items[Sequence], pending: Items[int]) -> list[list[int]]:
        price = self._price.of(len(rows))
        drafts: list[list[int]] = [[] for _ in rows]
        ask: list[tuple[int, int]] = []
        for index, (row, token) in enumerate(zip(rows, pending, strict=True)):
            state = self._state(row)
            count = state.policy.tokens(price) if state else 0
            if state is None or not count:
                continue
            if state.lookup is not None:
                state.lookup.take(row.tokens, len(row.prompt), token)
                drafts[index] = state.lookup.draft(count)
            if not drafts[index] and row.drafting.model:
                ask.append((index, count))
        if ask and self._model is not None:
            asked = [index for index, _ in ask]
            proposed = self._model.propose(
                [rows[i] for i in asked], [pending[i] for i in asked], [count for _, count in ask]
            )
            for index, draft in zip(asked, proposed, strict=True):
                drafts[index] = draft
        return drafts

    def learn(self, rows: Items[Sequence], drafted: Items[int], right: Items[int], seconds: float) -> None:
        self._price.learn(len(rows) + sum(drafted), seconds)
        for row, count, good in zip(rows, drafted, right, strict=True):
            state = self._state(row)
            if state is None:
                continue
            if count:
                state.policy.learn(count, good)
            else:
                state.policy.pause()

    def forget(self, row: Sequence) -> None:
        self._rows.pop(row, None)
        if self._model is not None:
            self._model.forget(row)

    def _state(self, row: Sequence) -> _Row | None:
        if not row.drafting.enabled:
            return None
        state = self._rows.get(row)
        if state is None:
            lookup = Lookup(row.drafting.prediction) if row.drafting.lookup else None
            state = self._rows[row] = _Row(Policy(row.drafting.most), lookup)
        return state
