"""Prompts to blocks: several at a time, laid end to end without padding, long ones in chunks that take turns."""

import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items

import mlx.core as mx

from models.kernels.inflight import limit_inflight_memory
from models.language.batch.prefill import (
    LARGEST,
    PREFILL_BUDGET_BUSY_S,
    PREFILL_BUDGET_IDLE_S,
    PrefillBudget,
    Prefilled,
)
from models.language.batch.sequence import Sequence
from models.language.decode.matmul import ROOM
from models.language.distributed.coordinator import Ranks
from models.language.paged.network import PagedNetwork
from models.language.paged.table import BLOCK, Table
from models.language.pictures.inputs import Chunk, Inputs, PictureReader
from models.waiting_queue import WaitingQueue

# Of a call's tokens, for prompts that take more than one call: those that take less do not wait for them, nor the other
# way round.
SHARE_OF_LONG = 0.25


class PagedPrefill:
    """Implements what `Batch` needs of a reader of prompts; see Prefill."""

    def __init__(
        self,
        network: PagedNetwork,
        switches_at: int | None,
        all_cores: Callable[[bool], None],
        ranks: Ranks,
        pictures: PictureReader | None = None,
    ) -> None:
        """`switches_at`: beyond this length all of a prompt is computed differently. `pictures`: of a model that sees."""
        self._network = network
        self._pictures = pictures
        self._switches_at = switches_at
        self._all_cores = all_cores
        self._budget = PrefillBudget(ranks)
        self._waiting: WaitingQueue[Sequence] = WaitingQueue(lambda row: row.priority)
        self._reading: list[Sequence] = []
        # Of those, the ones whose beginnings are being read from disk, and what reads a block of each.
        self._fetching: dict[Sequence, Iterator[None]] = {}
        self._working: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._reading)

    def add(self, row: Sequence) -> None:
        self._waiting.add(row)

    def add_first(self, row: Sequence) -> None:
        self._waiting.add_first(row)

    @property
    def reading(self) -> bool:
        return bool(self._reading)

    def remove(self, row: Sequence) -> bool:
        if row in self._reading:
            self._reading.remove(row)
            self._fetching.pop(row, None)
            self._close(row)
            return True
        if row in self._waiting:
            self._waiting.remove(row)
            return True
        return False

    def clear(self) -> None:
        self._waiting.clear()
        self._reading.clear()
        self._fetching.clear()
        self._budget.clear()
        if self._pictures is not None:
            self._pictures.clear()

    def rows(self) -> list[Sequence]:
        return self._reading + list(self._waiting)

    def abandon(self) -> list[Sequence]:
        lost, self._working = self._working, []
        for row in lost:
            if row in self._reading:
                self._reading.remove(row)
            self._fetching.pop(row, None)
            self._close(row, sound=False)
        return lost

    def _close(self, row: Sequence, sound: bool = True) -> None:
        if row.table is not None:
            self._network.close(row.table, row.tokens, sound)
            row.table = None

    def run(self, room: int, busy: bool, fits: Callable[[list[int]], bool]) -> Prefilled | None:
        self._working = []
        self._admit(room, fits)
        if self._fetching:
            self._fetch(PREFILL_BUDGET_BUSY_S if busy else PREFILL_BUDGET_IDLE_S)
        budget = self._budget.tokens(busy)
        rows = [row for row in self._reading if row not in self._fetching]
        left = [(row, len(row.text) - 1 - len(row.tokens)) for row in rows]
        runs = shared_out(budget, [length for _, length in left])
        chunks = [
            (row, row.text[len(row.tokens) : _end(row, len(row.tokens) + run)])
            for (row, _), run in zip(left, runs, strict=True)
            if run
        ]
        self._working = [row for row, _ in chunks]
        if chunks:
            self._feed(chunks)
        ready = [row for row in rows if len(row.tokens) == len(row.text) - 1]
        if not ready:
            return None
        self._reading = [row for row in self._reading if row not in ready]
        return Prefilled(ready, [], single=len(ready) == 1)

    def _admit(self, room: int, fits: Callable[[list[int]], bool]) -> None:
        """Begin prompts by priority and in the order in which they came, as long as there is room."""
        while self._waiting and len(self._reading) < room:
            row = self._waiting.peek()
            salt = self._salt(row)
            held, shared = self._network.manager.held(row.text, salt)
            if self._comes_soon(row, held) or not fits([len(row.text) - shared * BLOCK]):
                return
            self._waiting.pop()
            self._working.append(row)
            self._reading.append(row)
            row.table = self._network.open(row.text, salt)
            row.table.shift = row.pictures.shift if row.pictures else 0
            self._take_held(row, row.table)
            blocks = self._network.manager.fetches(row.table, row.text)
            if blocks is not None:
                self._fetching[row] = blocks
            if row.resumed is None and row.on_started:
                row.on_started()

    @staticmethod
    def _take_held(row: Sequence, table: Table) -> None:
        row.tokens = row.text[: table.length]
        if row.resumed is None:
            row.cached = table.length

    def _fetch(self, seconds: float) -> None:
        """Read beginnings of prompts from disk, one prompt after another, for about so long; a block at least."""
        end = time.perf_counter() + seconds
        for row, blocks in list(self._fetching.items()):
            self._working = [row]
            assert row.table is not None
            more = any(time.perf_counter() >= end for _ in blocks)
            self._take_held(row, row.table)
            if more:
                break
            del self._fetching[row]
        self._network.evaluate()
        self._working = []

    def _comes_soon(self, row: Sequence, held: int) -> bool:
        """Whether more of its beginning, by at least a block, is just being read for another one."""
        end = held + BLOCK
        return any(other.text[:end] == row.text[:end] and len(row.text) > end for other in self._reading)

    def _salt(self, row: Sequence) -> bytes:
        long = self._switches_at is not None and len(row.prompt) > self._switches_at
        return b"long" if long else b""

    def _feed(self, chunks: Items[tuple[Sequence, list[int]]]) -> None:
        inputs = self._inputs(chunks)  # the tower has a time of its own
        began = time.perf_counter()
        tables = [row.table for row, _ in chunks if row.table is not None]
        self._network.feed(
            [chunk for _, chunk in chunks],
            [table.blocks for table in tables],
            [table.length for table in tables],
            [len(row.prompt) for row, _ in chunks],
            inputs,
            [row.pictures.two_way if row.pictures else () for row, _ in chunks],
        )
        self._all_cores(True)
        with limit_inflight_memory(ROOM + self._network.pool.bytes_written_anew):
            self._network.evaluate()
        self._all_cores(False)
        for (row, chunk), table in zip(chunks, tables, strict=True):
            row.tokens = row.tokens + chunk
            table.length += len(chunk)
            self._network.manager.register(table, row.tokens)
        fed = sum(len(chunk) for _, chunk in chunks)
        if fed > LARGEST // 4:
            mx.clear_cache()
        self._budget.learn(fed, time.perf_counter() - began)

    def _inputs(self, chunks: Items[tuple[Sequence, list[int]]]) -> Inputs | None:
        if self._pictures is None or all(row.pictures is None for row, _ in chunks):
            return None
        parts = [Chunk(chunk, len(row.tokens), row.pictures) for row, chunk in chunks]
        self._pictures.look(parts)
        return self._pictures.inputs(parts)


def _end(row: Sequence, end: int) -> int:
    return end if row.pictures is None else row.pictures.whole(end)


def shared_out(budget: int, left: Items[int]) -> list[int]:
    """How many tokens of each prompt are fed, given how many are left of each. Prompts that fit are read whole, in order;
    longer ones share the rest, and at least a quarter, evenly."""
    long = [at for at, length in enumerate(left) if length > budget]
    whole = budget - int(budget * SHARE_OF_LONG) if long else budget
    runs = [0] * len(left)
    used = 0
    for at, length in enumerate(left):
        if at not in long and used < whole:
            runs[at] = min(length, whole - used)
            used += runs[at]
    rest = budget - used
    for turn, at in enumerate(long):
        runs[at] = rest // len(long) + (turn < rest % len(long))
    return runs
