"""The cache of one layer, as mlx-lm's networks use it: each token is a row, and attention is over the blocks of its text."""

from typing import Any

import mlx.core as mx

from models.language.paged.attention import attend
from models.language.paged.pool import KeyValuePool
from models.language.paged.step import Step, Window


class NotPageable(ValueError):
    """The network's attention cannot be taken over blocks."""


class PagedLayer:
    """`step` is set before each forward pass."""

    step: Step
    _written: mx.array | None = None

    def __init__(self, pool: KeyValuePool, at: int) -> None:
        self._pool = pool
        self._at = at
        self._window = pool.layers[at].window

    @property
    def offset(self) -> mx.array:
        """By which keys and queries are rotated."""
        return self.step.positions

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Writes them to the pool. What is returned is not looked at by `attend`."""
        step = self.step
        self._written = self._pool.write(
            self._at, step.blocks, step.offsets, keys[:, :, 0], values[:, :, 0], place=step.place
        )
        return keys, values

    def make_mask(self, length: int, return_array: bool = False, window_size: int | None = None) -> Window:
        return Window(window_size)

    def attend(
        self,
        queries: mx.array,
        scale: float,
        mask: Any,
        sinks: mx.array | None = None,
        softcap: float | None = None,
    ) -> mx.array:
        if isinstance(mask, mx.array):
            raise NotPageable("the network makes a mask of its own")
        sizes = [self._window, mask.size if isinstance(mask, Window) else None]
        window = min((size for size in sizes if size is not None), default=None)
        return attend(queries, self._pool, self._at, self.step, scale, window, sinks, softcap, self._written)
