"""The interface between the batch, which checks tokens that were drafted ahead of the model, and what drafts them."""

from collections.abc import Sequence as Items
from typing import Protocol

from models.language.batch.sequence import Sequence


class Drafter(Protocol):
    """Drafts never change a text: a token is accepted only if its row's sampler draws the same."""

    def due(self, rows: Items[Sequence]) -> bool:
        """Whether drafts are likely for one of the rows once its latest token has been read. Called for every step that
        is not preceded by `propose`."""

    def propose(self, rows: Items[Sequence], pending: Items[int]) -> list[list[int]]:
        """The tokens that may follow each row's `pending` one."""

    def learn(self, rows: Items[Sequence], drafted: Items[int], right: Items[int], seconds: float) -> None:
        """How many were drafted and right in a step that took so long."""

    def forget(self, row: Sequence) -> None:
        """The row has left."""
