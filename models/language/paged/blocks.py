"""Which block holds which tokens: references, sharing of equal beginnings, and what is dropped first. No MLX.

A text has a table of blocks. A full block is known by a digest of its tokens and all before them, so whoever begins the
same way points at the same block. Only the last block of a table is written to, and never while another table has it: a
text that diverges within a block gets a copy. Blocks that no table has stay until their place is needed, least recently
used first.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Protocol

from models.language.paged.table import BLOCK, TRASH, Table, chained, common_length, needed, root


class OutOfBlocks(RuntimeError):
    """All blocks are in use."""


class Tier(Protocol):
    """Where full blocks go that leave memory."""

    def put(self, digest: bytes, block: int) -> None:
        """The block is about to be used for something else."""

    def __contains__(self, digest: bytes) -> bool: ...

    def expect(self, digests: Sequence[bytes]) -> None:
        """These will be fetched next, in this order, up to the first that is not there."""

    def fetch(self, digest: bytes, block: int) -> bool:
        """Fill the block with what was put under this digest; False if it is not there."""


@dataclass(eq=False)
class _Block:
    references: int = 0
    digest: bytes | None = None  # of a full registered block
    parent: bytes | None = None  # None: not registered
    tokens: tuple[int, ...] = ()


class BlockManager:
    """`count`: blocks in all, the trash included. `keep`: how many may stay that no table has; 0 shares nothing."""

    def __init__(self, count: int, keep: int, tier: Tier | None = None) -> None:
        self.count = count
        self.keep = min(keep, count)
        self.tier = tier
        self.evictions = 0
        self.clear()

    def clear(self) -> None:
        """Forget all tables and all that is kept."""
        self._blocks: dict[int, _Block] = {}
        self._free: list[int] = []  # handed out before; a heap
        self._fresh = TRASH + 1  # never handed out, from here on
        self._idle: OrderedDict[int, None] = OrderedDict()  # registered, in no table; least recent first
        self._by_digest: dict[bytes, int] = {}
        self._children: dict[bytes, list[int]] = {}
        self._used = 0

    @property
    def used(self) -> int:
        """Blocks in tables."""
        return self._used

    @property
    def idle(self) -> int:
        """Blocks that are kept and in no table."""
        return len(self._idle)

    @property
    def available(self) -> int:
        """Blocks that could be handed out."""
        return self.count - 1 - self._used

    @property
    def touched(self) -> int:
        """One more than the highest block ever handed out."""
        return self._fresh

    # -- a text's table

    def open(self, tokens: Sequence[int], salt: bytes = b"") -> tuple[Table, list[tuple[int, int]]]:
        """A table with what is held of the beginning of `tokens`, without the last; and the blocks (from, to) that must
        be copied before anything else is done."""
        table = Table(salt)
        most = len(tokens) - 1
        while self.keep and table.length + BLOCK <= most:
            digest = chained(table.parent, tokens[table.length : table.length + BLOCK])
            block = self._by_digest.get(digest)
            if block is None:
                break
            self._refer(block)
            table.blocks.append(block)
            table.digests.append(digest)
            table.length += BLOCK
        copies = self._partly(table, tokens[table.length : most]) if self.keep else []
        return table, copies

    def held(self, tokens: Sequence[int], salt: bytes = b"") -> tuple[int, int]:
        """How many of `tokens` are held in full blocks, and how many of these blocks are in tables."""
        parent, blocks, running = root(salt), 0, 0
        while (blocks + 1) * BLOCK < len(tokens):
            parent = chained(parent, tokens[blocks * BLOCK : (blocks + 1) * BLOCK])
            block = self._by_digest.get(parent)
            if block is None:
                break
            blocks += 1
            running += self._blocks[block].references > 0
        return blocks * BLOCK, running

    def extend(self, table: Table, length: int) -> None:
        """Make room for `length` tokens; OutOfBlocks, and nothing is taken, if there is none."""
        more = needed(length) - len(table.blocks)
        if more > self.available:
            raise OutOfBlocks(f"{more} blocks are needed, and {self.available} of {self.count - 1} are left")
        for _ in range(more):
            table.blocks.append(self._take())

    def own(self, table: Table) -> list[int]:
        """Blocks that no other table has."""
        return [block for block in table.blocks if self._blocks[block].references == 1]

    def fetches(self, table: Table, tokens: Sequence[int]) -> Iterator[None] | None:
        """Fills blocks of a table, which has room for `tokens`, from the tier: one each time, as far as they are there. None if
        there is not even one."""
        first, last = len(table.digests), (len(tokens) - 1) // BLOCK
        if self.tier is None or not self.keep or first != table.length // BLOCK or first >= last:
            return None
        digests = [chained(table.parent, tokens[first * BLOCK : (first + 1) * BLOCK])]
        if digests[0] not in self.tier:
            return None
        for at in range(first + 1, last):
            digests.append(chained(digests[-1], tokens[at * BLOCK : (at + 1) * BLOCK]))
        return self._fetch(self.tier, table, tokens, digests)

    def _fetch(
        self, tier: Tier, table: Table, tokens: Sequence[int], digests: Sequence[bytes]
    ) -> Iterator[None]:
        tier.expect(digests)
        for at, digest in enumerate(digests, len(table.digests)):
            if not tier.fetch(digest, table.blocks[at]):
                return
            table.length = (at + 1) * BLOCK
            self.register(table, tokens)
            yield

    def register(self, table: Table, tokens: Sequence[int]) -> None:
        """Share the full blocks of a table, which holds the first `table.length` of `tokens`."""
        if not self.keep:
            return
        while (at := len(table.digests)) < table.length // BLOCK:
            part = tokens[at * BLOCK : (at + 1) * BLOCK]
            parent = table.parent
            digest = chained(parent, part)
            table.digests.append(digest)
            if digest not in self._by_digest:
                self._by_digest[digest] = table.blocks[at]
                self._enter(table.blocks[at], parent, part, digest)

    def rewind(self, table: Table, length: int) -> None:
        """Take the last tokens back. They must not have been registered."""
        if not len(table.digests) * BLOCK <= length <= table.length:
            raise ValueError(f"{table.length} tokens cannot be taken back to {length}")
        table.length = length
        while len(table.blocks) > needed(length):
            self._release(table.blocks.pop())

    def close(self, table: Table, tokens: Sequence[int], sound: bool = True) -> None:
        """The text has ended. What it holds stays as long as its place is not needed, unless it is not `sound`."""
        if sound:
            self.register(table, tokens)
            rest = tokens[len(table.digests) * BLOCK : table.length]
            if rest and self.keep and not self._covered(table.parent, rest):
                self._enter(table.blocks[len(table.digests)], table.parent, rest, None)
        else:
            for block in self.own(table):
                self._leave(block)
        # The end is dropped before the beginning, which more texts share.
        for block in reversed(table.blocks):
            self._release(block)
        table.blocks, table.digests, table.length = [], [], 0
        while len(self._idle) > self.keep:
            self._evict()

    def drop_idle(self) -> None:
        """Forget what is in no table."""
        for block in list(self._idle):
            self._leave(block)
            self._discard(block)

    def registered(self) -> list[tuple[bytes, int]]:
        """Digest and place of all full blocks that are shared."""
        return list(self._by_digest.items())

    # -- blocks

    def _partly(self, table: Table, rest: Sequence[int]) -> list[tuple[int, int]]:
        """Add the block that shares most of what comes next, as a copy, unless it is free to be continued."""
        best, shared = None, 0
        for block in self._children.get(table.parent, ()):
            common = common_length(self._blocks[block].tokens, rest)
            if common > shared:
                best, shared = block, common
        if best is None:
            return []
        entry = self._blocks[best]
        self._refer(best)
        if entry.references == 1 and entry.digest is None and shared == len(entry.tokens):
            self._leave(best)
            table.blocks.append(best)
            table.length += shared
            return []
        copies = []
        if self.available:
            table.blocks.append(self._take())
            table.length += shared
            copies = [(best, table.blocks[-1])]
        self._release(best)
        return copies

    def _covered(self, parent: bytes, tokens: Sequence[int]) -> bool:
        """Whether another block holds all of these already. Shorter ones, in no table, make place for them."""
        for block in list(self._children.get(parent, ())):
            common = common_length(self._blocks[block].tokens, tokens)
            if common == len(tokens):
                return True
            if common == len(self._blocks[block].tokens) and block in self._idle:
                self._leave(block)
                self._discard(block)
        return False

    def _take(self) -> int:
        if self._free:
            block = heappop(self._free)
        elif self._fresh < self.count:
            block = self._fresh
            self._fresh += 1
        else:
            self._evict()
            block = heappop(self._free)
        self._blocks[block] = _Block(references=1)
        self._used += 1
        return block

    def _evict(self) -> None:
        if not self._idle:
            raise OutOfBlocks("all blocks are in use")
        block = next(iter(self._idle))
        digest = self._blocks[block].digest
        if self.tier is not None and digest is not None:
            self.tier.put(digest, block)
        self._leave(block)
        self._discard(block)
        self.evictions += 1

    def _discard(self, block: int) -> None:
        """Of a block in no table."""
        self._idle.pop(block, None)
        del self._blocks[block]
        heappush(self._free, block)

    def _refer(self, block: int) -> None:
        entry = self._blocks[block]
        if not entry.references:
            self._idle.pop(block, None)
            self._used += 1
        entry.references += 1

    def _release(self, block: int) -> None:
        entry = self._blocks[block]
        entry.references -= 1
        if entry.references:
            return
        self._used -= 1
        if entry.parent is None:
            self._discard(block)
        else:
            self._idle[block] = None

    def _enter(self, block: int, parent: bytes, tokens: Sequence[int], digest: bytes | None) -> None:
        entry = self._blocks[block]
        entry.parent, entry.digest, entry.tokens = parent, digest, tuple(tokens)
        self._children.setdefault(parent, []).append(block)

    def _leave(self, block: int) -> None:
        """Stop sharing a block."""
        entry = self._blocks[block]
        if entry.parent is not None:
            siblings = self._children[entry.parent]
            siblings.remove(block)
            if not siblings:
                del self._children[entry.parent]
        if entry.digest is not None:
            del self._by_digest[entry.digest]
        entry.parent = entry.digest = None
