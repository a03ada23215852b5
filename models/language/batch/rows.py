"""What a batch needs of those who read its prompts and hold its rows."""

from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import Protocol

import mlx.core as mx

from models.language.batch.prefill import Prefilled
from models.language.batch.sequence import Sequence


class Reader(Protocol):
    """Reads prompts."""

    def __len__(self) -> int:
        """Prompts that wait or are being read."""

    @property
    def reading(self) -> bool:
        """Whether a prompt has been begun."""

    def add(self, row: Sequence) -> None: ...

    def add_first(self, row: Sequence) -> None:
        """A row that was decoding already."""

    def remove(self, row: Sequence) -> bool:
        """Whether it was there."""

    def rows(self) -> list[Sequence]: ...

    def run(self, room: int, busy: bool, fits: Callable[[list[int]], bool]) -> Prefilled | None:
        """Make one call; the sequences that are ready to decode after it, if any. `fits`: whether there is memory for
        prompts of these lengths; `busy`: whether others are decoding."""

    def abandon(self) -> list[Sequence]:
        """After a failed call: drop the sequences it was working on, and return them."""

    def clear(self) -> None:
        """Drop everything."""


class Rows(Protocol):
    """Holds keys and values of the decoding rows, and runs the network over them."""

    @property
    def held_tokens(self) -> int:
        """Tokens that room is taken for, in prompts that are being read too."""

    def join(self, ready: Prefilled) -> None:
        """Append rows whose prompts have been read."""

    def keep(self, rows: Items[int]) -> None:
        """Drop all other rows."""

    def remember(self, index: int, row: Sequence) -> None:
        """Before a row is dropped: keep its keys and values for texts that begin like it."""

    def logits(self, tokens: mx.array) -> mx.array:
        """Append one token to each row; the next-token logits, [row, vocabulary]."""

    def fits(self, lengths: Items[int]) -> bool:
        """Whether there is room for prompts of these lengths, beside the rows."""

    @property
    def overfull(self) -> bool:
        """Whether the next step takes more than there is."""

    def clear(self) -> None:
        """Drop all rows."""
