"""Encoded prompts: what the text encoders make of a prompt, and a cache of it."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import NamedTuple, Self

import mlx.core as mx


class PromptEmbeds(NamedTuple):
    """`states` are the encoders' outputs, batch first: sequences [1, token, channel] or vectors [1, channel]. `mask`,
    [1, token], is 1 where a token is real; None: all are. `warnings` are for the prompt's author."""

    states: tuple[mx.array, ...]
    warnings: tuple[str, ...] = ()
    mask: mx.array | None = None

    @property
    def arrays(self) -> tuple[mx.array, ...]:
        return self.states if self.mask is None else (*self.states, self.mask)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)

    @classmethod
    def batch(cls, prompts: Sequence[Self]) -> Self:
        """Several prompts as one. Where they have masks, sequences may differ in length: they are padded to the longest."""
        masks = [embeds.mask for embeds in prompts if embeds.mask is not None]
        columns = [list(column) for column in zip(*(embeds.states for embeds in prompts), strict=True)]
        if not masks:
            return cls(tuple(mx.concatenate(column) for column in columns))
        tokens = max(mask.shape[1] for mask in masks)
        states = tuple(
            mx.concatenate([_padded(state, tokens) if state.ndim == 3 else state for state in column])
            for column in columns
        )
        return cls(states, mask=mx.concatenate([_padded(mask, tokens) for mask in masks]))


def _padded(array: mx.array, tokens: int) -> mx.array:
    widths = [(0, 0)] * array.ndim
    widths[1] = (0, tokens - array.shape[1])
    return mx.pad(array, widths)


def cut_warning(cut: int, length: int, reader: str = "the prompt") -> tuple[str, ...]:
    """A warning for a prompt that is too long; none where nothing was cut."""
    if not cut:
        return ()
    return (f"{reader} was cut: {length} tokens fit, the last {cut} of {length + cut} were left out",)


class PromptEmbedsCache:
    """The most recently used prompts, bounded in bytes; a key is the prompt and what else its states depend on."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._embeds: OrderedDict[Hashable, PromptEmbeds] = OrderedDict()

    def get(self, key: Hashable) -> PromptEmbeds | None:
        if key in self._embeds:
            self._embeds.move_to_end(key)
        return self._embeds.get(key)

    def put(self, key: Hashable, embeds: PromptEmbeds) -> None:
        self._embeds[key] = embeds
        while self.nbytes > self._limit:
            self._embeds.popitem(last=False)

    @property
    def nbytes(self) -> int:
        return sum(embeds.nbytes for embeds in self._embeds.values())
