"""What one forward pass feeds: tokens of several texts laid end to end, each token a row of its own for the network."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from models.kernels import prompt_attention
from models.kernels.prompt_attention import PADDING, Run
from models.language.paged.table import BLOCK, TRASH

Ints = NDArray[np.int32]

FEW = 8  # tokens of a text that are compared with its blocks as they are; keys of longer runs are gathered first
# Rows of one group may have so many times the blocks of the shortest.
SPREAD = 2
# Blocks of all texts of a group up to which heads are multiplied one by one, so that nothing is rearranged in between.
SHORT = 64


@dataclass(frozen=True)
class Window:
    """Takes the place of a mask: every token sees those before it, at most so many of them; None: all."""

    size: int | None = None


@dataclass(eq=False)
class View:
    """The blocks that the texts of a group look at, as arrays."""

    tables: mx.array  # [text, block]
    visible: mx.array  # [text, 1, 1, query, token]
    _pairs: dict[int, tuple[mx.array, mx.array, mx.array]] = field(default_factory=dict)
    _pairs_by_head: dict[int, tuple[mx.array, mx.array, mx.array]] = field(default_factory=dict)

    @cached_property
    def hidden(self) -> mx.array:
        """Zero where a token is visible, minus infinity elsewhere."""
        return mx.where(self.visible, mx.array(0.0), mx.array(-mx.inf))

    @cached_property
    def short(self) -> bool:
        """Whether there are so few blocks that operations cost more than what they compute."""
        return self.tables.size <= SHORT

    def pairs_by_head(self, heads: int, group: int) -> tuple[mx.array, mx.array, mx.array]:
        """For each text, query head and block: the place of its query, that of its keys, and its own."""
        if heads not in self._pairs_by_head:
            head = mx.arange(heads * group, dtype=mx.uint32)[None, :, None]
            keys = self.tables[:, None].astype(mx.uint32) * heads + head // group
            texts = mx.arange(self.tables.shape[0], dtype=mx.uint32)[:, None, None] * (heads * group) + head
            queries = mx.broadcast_to(texts, keys.shape).flatten()
            self._pairs_by_head[heads] = queries, keys.flatten(), mx.arange(keys.size, dtype=mx.uint32)
        return self._pairs_by_head[heads]

    def pairs(self, heads: int) -> tuple[mx.array, mx.array, mx.array]:
        """For each text, block and head: the place of its queries, that of its keys, and its own."""
        if heads not in self._pairs:
            self._pairs[heads] = self._paired(heads)
        return self._pairs[heads]

    def _paired(self, heads: int) -> tuple[mx.array, mx.array, mx.array]:
        head = mx.arange(heads, dtype=mx.uint32)
        keys = self.tables[..., None].astype(mx.uint32) * heads + head
        texts = mx.arange(self.tables.shape[0], dtype=mx.uint32)[:, None, None] * heads + head
        queries = mx.broadcast_to(texts, keys.shape).flatten()
        return queries, keys.flatten(), mx.arange(keys.size, dtype=mx.uint32)


@dataclass(eq=False)
class Group:
    """Texts that feed the same number of tokens. `rows`: where these are in the step, text by text; None: all in order."""

    rows: Ints | None
    count: int
    tables: Ints  # [text, block]
    first: Ints  # place of each text's first token
    # Runs of tokens (first, last + 1) of the text that see each other in both directions; of a single text.
    two_way: Sequence[tuple[int, int]] = ()
    _views: dict[int | None, View] = field(default_factory=dict)

    def take(self, x: mx.array) -> mx.array:
        """The group's rows of a step's array [row, head, 1, channel], as [text, head, token, channel]."""
        mine = x if self.rows is None else x[mx.array(self.rows)]
        if self.count == 1:
            return mine
        return mine.reshape(len(self.first), self.count, *x.shape[1:2], x.shape[-1]).swapaxes(1, 2)

    @cached_property
    def by_token(self) -> tuple[mx.array, mx.array]:
        """The table of each token, and its position."""
        tables = np.repeat(self.tables, self.count, axis=0)
        ends = (self.first[:, None] + np.arange(self.count)).ravel()
        return mx.array(tables.astype(np.int32)), mx.array(ends.astype(np.int32))

    def view(self, window: int | None) -> View:
        if window not in self._views:
            self._views[window] = self._view(window)
        return self._views[window]

    def _view(self, window: int | None) -> View:
        last = self.first + self.count - 1
        begin = (
            np.zeros_like(self.first) if window is None else np.maximum(self.first - window + 1, 0) // BLOCK
        )
        width = int((last // BLOCK - begin).max()) + 1
        at = np.minimum(begin[:, None] + np.arange(width), self.tables.shape[1] - 1)
        tables = np.take_along_axis(self.tables, at, axis=1)
        keys = mx.array(begin)[:, None, None] * BLOCK + mx.arange(width * BLOCK)
        queries = mx.array(self.first)[:, None, None] + mx.arange(self.count)[:, None]
        visible = keys <= queries
        for run, end in self.two_way:
            visible = visible | ((keys >= run) & (keys < end) & (queries >= run) & (queries < end))
        if window is not None:  # of Gemma 3, within pictures as well
            visible = visible & (keys > queries - window)
        return View(mx.array(tables), visible[:, None, None])


@dataclass(eq=False)
class Prompts:
    """All runs of a step together, as the kernel for prompts takes them. Those of padding come last."""

    runs: Sequence[Run]
    whole: Ints  # tables, [text, block]
    _tiles: dict[int, mx.array] = field(default_factory=dict)

    @classmethod
    def of(
        cls, tables: Sequence[Sequence[int]], first: Sequence[int], counts: Sequence[int], padding: int
    ) -> "Prompts":
        runs = [Run(text, *run) for text, run in enumerate(zip(counts, first, strict=True))]
        widths = [(start + count - 1) // BLOCK + 1 for _, count, start in runs]
        # As few widths as there are powers of two: arrays of a size that was there before are not allocated anew.
        whole = np.full((len(tables), 1 << (max(widths) - 1).bit_length()), TRASH, np.int32)
        for row, table, width in zip(whole, tables, widths, strict=True):
            row[:width] = table[:width]
        return cls([*runs, Run(PADDING, padding, 0)] if padding else runs, whole)

    @cached_property
    def tables(self) -> mx.array:
        return mx.array(self.whole)

    def tiles(self, heads: int) -> mx.array:
        """For so many query heads per key head."""
        if heads not in self._tiles:
            self._tiles[heads] = mx.array(prompt_attention.tiles(self.runs, heads))
        return self._tiles[heads]


class Step:
    """Where a step's tokens are in their texts and in the pool."""

    prompts: Prompts | None = None  # if the step is one of prompts
    padding = 0  # tokens at the end that belong to no text

    def __init__(
        self, places: Ints, blocks: Ints, groups: Sequence[Group], shifts: Ints | None = None
    ) -> None:
        """`places`: of the tokens in their texts; `blocks`: of each token; `shifts`: what is added to a place to get the
        token's position."""
        self.positions = mx.array(places if shifts is None else places + shifts)
        self.blocks = mx.array(blocks)
        self.offsets = mx.array(places % BLOCK)
        # Of a single token.
        self.place = (int(blocks[0]), int(places[0]) % BLOCK) if len(blocks) == 1 else None
        self.groups = groups
        rows = [group.rows for group in groups if group.rows is not None]
        order = np.argsort(np.concatenate(rows), kind="stable") if rows else np.arange(0)
        self.order = None if (order == np.arange(len(order))).all() else mx.array(order)

    @classmethod
    def of_rows(cls, tables: Ints, first: Ints, count: int, shifts: Ints | None = None) -> "Step":
        """The same number of tokens for each text; `tables` are padded with blocks that are not looked at."""
        places = (first[:, None] + np.arange(count)).astype(np.int32)
        blocks = np.take_along_axis(tables, places // BLOCK, axis=1)
        by_token = None if shifts is None else np.repeat(shifts, count)
        return cls(places.ravel(), blocks.ravel(), _alike(tables, first, count), by_token)

    @classmethod
    def of_runs(cls, tables: Ints, first: Ints, counts: Ints, shifts: Ints | None = None) -> "Step":
        """A few tokens for each text, not as many for all; `tables` as in `of_rows`."""
        begins = np.cumsum(counts) - counts
        texts = np.repeat(np.arange(len(counts)), counts)
        positions = (first[texts] + np.arange(len(texts)) - begins[texts]).astype(np.int32)
        groups = []
        for count in np.unique(counts):
            alike = np.flatnonzero(counts == count)
            for group in _alike(tables[alike], first[alike], int(count)):
                places = (begins[alike, None] + np.arange(count)).ravel().astype(np.int32)
                group.rows = places if group.rows is None else places[group.rows]
                groups.append(group)
        by_token = None if shifts is None else shifts[texts]
        return cls(positions, tables[texts, positions // BLOCK], groups, by_token)

    @classmethod
    def of_prompts(
        cls,
        tables: Sequence[Sequence[int]],
        first: Sequence[int],
        counts: Sequence[int],
        two_way: Sequence[Sequence[tuple[int, int]]] = (),
        padding: int = 0,
    ) -> "Step":
        """A run of tokens for each text. `two_way`: runs of each text's tokens that see each other in both directions;
        `padding`: so many tokens more, whose results are zeros or anything finite."""
        positions: list[Ints] = []
        places: list[Ints] = []
        groups: list[Group] = []
        begin = 0
        for table, start, count, seen in zip(
            tables, first, counts, two_way or [()] * len(counts), strict=True
        ):
            blocks = np.array(table, np.int32)
            run = np.arange(start, start + count, dtype=np.int32)
            positions.append(run)
            places.append(blocks[run // BLOCK])
            alone = len(counts) == 1 and not padding
            rows = None if alone else np.arange(begin, begin + count, dtype=np.int32)
            inside = [run for run in seen if run[0] < start + count and run[1] > start]
            groups.append(Group(rows, count, blocks[None], np.array([start], np.int32), inside))
            begin += count
        places.append(np.full(padding, TRASH, np.int32))
        positions.append(np.zeros(padding, np.int32))
        step = cls(np.concatenate(positions), np.concatenate(places), groups)
        step.padding = padding
        if not any(group.two_way for group in groups):
            step.prompts = Prompts.of(tables, first, counts, padding)
        return step


def _alike(tables: Ints, first: Ints, count: int) -> list[Group]:
    """Groups of rows with about as many blocks, so that a long text does not make the others as long."""
    blocks = (first + count - 1) // BLOCK + 1
    if int(blocks.max()) * len(blocks) <= SPREAD * int(blocks.sum()):
        return [Group(None, count, tables[:, : int(blocks.max())], first)]
    groups = []
    order = np.argsort(blocks, kind="stable")
    while len(order):
        within = int(np.searchsorted(blocks[order], SPREAD * blocks[order[0]], side="right"))
        chosen, order = np.sort(order[:within]), order[within:]
        rows = (chosen[:, None] * count + np.arange(count)).ravel().astype(np.int32)
        groups.append(Group(rows, count, tables[chosen, : int(blocks[chosen].max())], first[chosen]))
    return groups
