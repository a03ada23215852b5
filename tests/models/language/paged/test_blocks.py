"""Blocks are shared by texts with the same beginning, never while they are written to, and none is lost."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from models.language.paged.blocks import BlockManager, OutOfBlocks
from models.language.paged.table import BLOCK, TRASH, Table, needed


def text(length: int, seed: int = 0) -> list[int]:
    return [random.Random(seed * 10_007 + at).randrange(50) for at in range(length)]


def fill(manager: BlockManager, tokens: list[int], salt: bytes = b"") -> Table:
    """A table that holds all of a text."""
    table, _ = manager.open(tokens, salt)
    manager.extend(table, len(tokens))
    table.length = len(tokens)
    manager.register(table, tokens)
    return table


def test_a_text_that_begins_alike_points_at_the_same_blocks() -> None:
    manager = BlockManager(20, 20)
    first = fill(manager, text(3 * BLOCK))
    second, copies = manager.open([*text(2 * BLOCK), *text(BLOCK, seed=1)])
    assert second.blocks == first.blocks[:2]
    assert second.length == 2 * BLOCK
    assert copies == []
    assert manager.used == 3


def test_a_token_is_always_left_to_be_fed() -> None:
    manager = BlockManager(20, 20)
    tokens = text(2 * BLOCK)
    manager.close(fill(manager, tokens), tokens)
    table, copies = manager.open(tokens)
    assert table.length == 2 * BLOCK - 1
    assert len(copies) == 1  # of the block whose last token is fed again


def test_a_text_that_diverges_within_a_block_gets_a_copy_of_it() -> None:
    manager = BlockManager(20, 20)
    tokens = text(2 * BLOCK)
    first = fill(manager, tokens)
    other = [*tokens[: BLOCK + 7], 99, *text(40, seed=2)]
    table, copies = manager.open(other)
    assert table.length == BLOCK + 7
    assert table.blocks[0] == first.blocks[0]
    assert copies == [(first.blocks[1], table.blocks[1])]


def test_an_ended_text_is_gone_on_with_in_its_last_block() -> None:
    manager = BlockManager(20, 20)
    tokens = text(BLOCK + 5)
    first = fill(manager, tokens)
    blocks = list(first.blocks)
    manager.close(first, tokens)
    table, copies = manager.open([*tokens, 1, 2, 3])
    assert (table.blocks, table.length, copies) == (blocks, BLOCK + 5, [])
    # While it is written to, a third text shares its full block alone.
    third, copies = manager.open([*tokens, 1, 2, 3])
    assert (third.blocks, third.length, copies) == (blocks[:1], BLOCK, [])


def test_texts_of_another_kind_share_nothing() -> None:
    manager = BlockManager(20, 20)
    fill(manager, text(2 * BLOCK), b"long")
    assert manager.open(text(3 * BLOCK), b"short")[0].length == 0
    assert manager.open(text(3 * BLOCK), b"long")[0].length == 2 * BLOCK


def test_what_is_not_sound_is_not_shared() -> None:
    manager = BlockManager(20, 20)
    tokens = text(2 * BLOCK + 3)
    table = fill(manager, tokens)
    assert len(manager.own(table)) == 3
    manager.close(table, tokens, sound=False)
    assert manager.open(tokens)[0].length == 0
    assert manager.used == manager.idle == 0


def test_the_least_recently_used_make_place_ends_before_beginnings() -> None:
    manager = BlockManager(7, 6)
    for seed in (1, 2):
        tokens = text(3 * BLOCK, seed)
        manager.close(fill(manager, tokens), tokens)
    assert manager.idle == 6
    manager.extend(Table(b""), 2 * BLOCK)
    assert manager.evictions == 2
    assert manager.held([*text(3 * BLOCK, 1), 0])[0] == BLOCK
    assert manager.held([*text(3 * BLOCK, 2), 0])[0] == 3 * BLOCK


def test_more_than_there_is_is_refused_whole() -> None:
    manager = BlockManager(4, 4)
    table = Table(b"")
    with pytest.raises(OutOfBlocks, match="4 blocks are needed, and 3 of 3 are left"):
        manager.extend(table, 4 * BLOCK)
    assert table.blocks == []
    assert manager.used == 0


def test_tokens_are_taken_back_with_their_blocks() -> None:
    manager = BlockManager(9, 9)
    table = Table(b"")
    manager.extend(table, 3 * BLOCK)
    table.length = 2 * BLOCK + 5
    manager.rewind(table, BLOCK)
    assert (len(table.blocks), table.length, manager.used) == (1, BLOCK, 1)
    table.length = BLOCK
    manager.register(table, text(BLOCK))
    with pytest.raises(ValueError, match="cannot be taken back"):
        manager.rewind(table, BLOCK - 1)


def test_nothing_is_kept_where_nothing_may_be() -> None:
    manager = BlockManager(9, 0)
    tokens = text(2 * BLOCK)
    manager.close(fill(manager, tokens), tokens)
    assert (manager.used, manager.idle) == (0, 0)
    assert manager.open([*tokens, 1])[0].length == 0


class Shelf:
    """A tier that keeps the tokens of blocks."""

    def __init__(self, contents: dict[int, list[int]]) -> None:
        self.contents = contents
        self.kept: dict[bytes, list[int]] = {}
        self.expected: list[bytes] = []
        self.fetched = 0

    def __contains__(self, digest: bytes) -> bool:
        return digest in self.kept

    def expect(self, digests: Sequence[bytes]) -> None:
        self.expected = list(digests)

    def put(self, digest: bytes, block: int) -> None:
        self.kept[digest] = list(self.contents[block])

    def fetch(self, digest: bytes, block: int) -> bool:
        assert digest == self.expected.pop(0)
        if digest not in self.kept:
            return False
        self.fetched += 1
        self.contents[block] = list(self.kept[digest])
        return True


@dataclass
class Running:
    tokens: list[int]
    table: Table


@dataclass
class World:
    """Texts that come, grow, are taken back and go, over blocks whose content is their tokens."""

    seed: int
    tier: bool
    manager: BlockManager = field(init=False)
    contents: dict[int, list[int]] = field(default_factory=dict)
    running: list[Running] = field(default_factory=list)
    shared: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        tier = Shelf(self.contents) if self.tier else None
        self.manager = BlockManager(24, self.random.choice([0, 5, 24]), tier)

    def write(self, run: Running, tokens: list[int]) -> None:
        for token in tokens:
            block, at = run.table.blocks[run.table.length // BLOCK], run.table.length % BLOCK
            assert self.manager.own(run.table).count(block) == 1, "a block is written to that others have"
            content = self.contents.setdefault(block, [])
            self.contents[block] = [*content[:at], token]
            run.table.length += 1

    def begin(self) -> None:
        stem = self.random.randrange(3)
        tokens = [
            *text(self.random.randrange(1, 150), stem),
            *text(self.random.randrange(1, 20), self.random.randrange(99)),
        ]
        held, running = self.manager.held(tokens)
        if needed(len(tokens)) - running > self.manager.available:
            return
        table, copies = self.manager.open(tokens)
        for source, target in copies:
            self.contents[target] = list(self.contents[source])
        assert held <= table.length < len(tokens)
        self.manager.extend(table, len(tokens))
        patience = self.random.randrange(4)
        for _ in self.manager.fetches(table, tokens) or ():
            patience -= 1
            if patience < 0:  # it is computed after all
                break
        assert table.length < len(tokens)
        run = Running(tokens, table)
        self.running.append(run)
        self.shared += table.length
        self.write(run, tokens[table.length :])
        if self.random.random() < 0.7:
            self.manager.register(table, tokens)

    def grow(self, run: Running) -> None:
        more = [self.random.randrange(50) for _ in range(self.random.randrange(1, 9))]
        try:
            self.manager.extend(run.table, run.table.length + len(more))
        except OutOfBlocks:
            self.end(run)
            return
        self.write(run, more)
        kept = self.random.randrange(len(more) + 1)
        self.manager.rewind(run.table, run.table.length - len(more) + kept)
        run.tokens = run.tokens + more[:kept]

    def end(self, run: Running) -> None:
        self.running.remove(run)
        self.manager.close(run.table, run.tokens, sound=self.random.random() < 0.9)

    def check(self) -> None:
        manager = self.manager
        held = Counter(block for run in self.running for block in run.table.blocks)
        assert TRASH not in held
        assert manager.used == len(held)
        assert manager.used + manager.idle <= manager.count - 1
        assert manager.idle <= max(manager.keep, 0) or manager.idle <= manager.count - 1 - manager.used
        for run in self.running:
            content = [token for block in run.table.blocks for token in self.contents.get(block, [])[:BLOCK]]
            assert content[: run.table.length] == run.tokens[: run.table.length]


@pytest.mark.parametrize("tier", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_through_thousands_of_steps_every_text_finds_its_own_tokens(seed: int, tier: bool) -> None:
    world = World(seed, tier)
    for _ in range(1000):
        if not world.running or world.random.random() < 0.3:
            world.begin()
        elif world.random.random() < 0.6:
            world.grow(world.random.choice(world.running))
        else:
            world.end(world.random.choice(world.running))
        world.check()
    assert world.shared or not world.manager.keep
    if isinstance(world.manager.tier, Shelf) and world.manager.keep:
        assert world.manager.tier.fetched > 10
    for run in list(world.running):
        world.end(run)
    world.manager.drop_idle()
    assert (world.manager.used, world.manager.idle) == (0, 0)
    table = Table(b"")
    world.manager.extend(table, (world.manager.count - 1) * BLOCK)
    assert sorted(table.blocks) == list(range(1, world.manager.count))
