"""Decoding rows whose keys and values are in blocks."""

from collections.abc import Sequence as Items

import mlx.core as mx
import numpy as np

from models.language.batch.alone import LONGEST, Alone, maker
from models.language.batch.prefill import Prefilled
from models.language.batch.sequence import Sequence
from models.language.paged.network import PagedNetwork
from models.language.paged.step import Ints
from models.language.paged.table import BLOCK, TRASH, Table, needed

GROWTH = 8  # blocks that the arrays of tables grow by


class PagedRows:
    """Implements Rows. A row's table is that of its sequence."""

    def __init__(self, network: PagedNetwork) -> None:
        self._network = network
        self._alone_with = maker(network)
        self.clear()

    def clear(self) -> None:
        self._alone: Alone | None = None
        self._verifying = False  # several tokens of a row at a time, since rows have last joined
        self._rows: list[Table] = []
        self._tables = np.full((0, GROWTH), TRASH, np.int32)

    @property
    def held_tokens(self) -> int:
        return self._network.held_tokens

    def join(self, ready: Prefilled) -> None:
        self._leave_alone()
        self._verifying = False
        for row in ready.rows:
            assert row.table is not None
            self._rows.append(row.table)
        self._tables = np.full((len(self._rows), self._width()), TRASH, np.int32)
        for at, table in enumerate(self._rows):
            self._tables[at, : len(table.blocks)] = table.blocks

    def _width(self) -> int:
        longest = max(len(table.blocks) for table in self._rows)
        return -(-(longest + 1) // GROWTH) * GROWTH

    def keep(self, rows: Items[int]) -> None:
        self._rows = [self._rows[at] for at in rows]
        # A long text that has left does not make the others' tables longer.
        self._tables = self._tables[list(rows), : self._width()] if rows else self._tables[:0]

    def remember(self, index: int, row: Sequence) -> None:
        self._leave_alone()
        self._network.close(self._rows[index], row.tokens, sound=not row.has_nan)
        row.table = None

    def logits(self, tokens: mx.array) -> mx.array:
        if len(self._rows) == 1 and not self._verifying:
            table = self._rows[0]
            if table.length >= LONGEST:
                self._leave_alone()
            elif self._alone is None:
                self._alone = self._alone_with(table)
            if self._alone is not None:
                self._grow(0, table, table.length + 1)
                return self._alone.logits(tokens)
        return self.several(tokens[:, None])[:, 0]

    def _leave_alone(self) -> None:
        if self._alone is not None:
            self._alone.write()
            self._alone = None

    def several(self, tokens: mx.array) -> mx.array:
        """Append [row, count] tokens; the logits that follow each, [row, count, vocabulary]."""
        self._leave_alone()
        count = tokens.shape[1]
        first = np.array([table.length for table in self._rows], np.int32)
        for at, table in enumerate(self._rows):
            self._grow(at, table, table.length + count)
        logits = self._network.logits(tokens, self._tables, first, self._shifts)
        for table in self._rows:
            table.length += count
        return logits

    def runs(self, runs: Items[Items[int]]) -> mx.array:
        """Append a run of tokens to each row; the logits that follow each token, [token, vocabulary]."""
        self._leave_alone()
        self._verifying = True
        first = np.array([table.length for table in self._rows], np.int32)
        for at, (table, run) in enumerate(zip(self._rows, runs, strict=True)):
            self._grow(at, table, table.length + len(run))
        logits = self._network.logits_of_runs(runs, self._tables, first, self._shifts)
        for table, run in zip(self._rows, runs, strict=True):
            table.length += len(run)
        return logits

    @property
    def _shifts(self) -> Ints | None:
        shifts = np.array([table.shift for table in self._rows], np.int32)
        return shifts if shifts.any() else None

    def has_room(self, runs: Items[Items[int]]) -> bool:
        """Whether there are blocks for a run of tokens of each row."""
        tables = zip(self._rows, runs, strict=True)
        more = sum(max(needed(table.length + len(run)) - len(table.blocks), 0) for table, run in tables)
        return more <= self._network.manager.available

    def rewind(self, index: int, length: int) -> None:
        """Take tokens of a row back, so that `length` are left."""
        table = self._rows[index]
        self._network.manager.rewind(table, length)
        self._tables[index, len(table.blocks) :] = TRASH

    def _grow(self, at: int, table: Table, length: int) -> None:
        held = len(table.blocks)
        if length <= held * BLOCK:
            return
        self._network.manager.extend(table, length)
        more = len(table.blocks) - self._tables.shape[1]
        if more > 0:
            wider = -(-more // GROWTH) * GROWTH
            self._tables = np.pad(self._tables, ((0, 0), (0, wider)), constant_values=TRASH)
        self._tables[at, held : len(table.blocks)] = table.blocks[held:]

    def fits(self, lengths: Items[int]) -> bool:
        """With a block to spare for each row, so that no row must give its own back at once."""
        blocks = sum(needed(length + 1) for length in lengths)
        spare = len(self._rows) + len(lengths) if self._network.manager.used else 0
        return blocks + spare <= self._network.manager.available

    @property
    def overfull(self) -> bool:
        more = sum(table.length == table.room for table in self._rows)
        return more > self._network.manager.available
