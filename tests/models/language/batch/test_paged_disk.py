"""A batch whose blocks go to disk when their place is needed: sequences write what they write alone, whatever is read from there."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.language.batch import paged_prefill
from models.language.batch.batch import Batch
from models.language.batch.sequence import Sequence
from models.language.cache.prefix_cache import PrefixCache
from models.language.load import LanguageModel
from models.language.paged.disk import DiskTier
from models.language.paged.table import BLOCK
from models.language.paged.tier import PooledTier, layout
from tests.models.language.batch.test_batch import prompt, reference_without_stop, toy, written

MIB = 1024**2


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return toy(request.param)


class WithDisk:
    """A batch over a pool of some blocks, and the disk below it."""

    def __init__(self, model: LanguageModel, folder: Path, blocks: int) -> None:
        prefix = PrefixCache(10**9)
        self.batch = Batch(model.model, model.vocab, model.new_cache, prefix, 8, capacity=blocks * BLOCK)
        assert self.batch.network is not None
        self.network = self.batch.network
        self.disk = DiskTier(folder, 500 * MIB, "toy", layout(self.network.pool))
        self.tier = self.network.manager.tier = PooledTier(self.network.pool, self.disk)

    def stop(self) -> None:
        self.batch.end()
        self.tier.store(self.network.manager.registered(), 60)
        self.disk.close(60)


@pytest.fixture
def large(model: LanguageModel, tmp_path: Path) -> Iterator[WithDisk]:
    made = WithDisk(model, tmp_path, 200)
    yield made
    made.stop()


@pytest.fixture
def small(model: LanguageModel, tmp_path: Path) -> Iterator[WithDisk]:
    made = WithDisk(model, tmp_path, 14)
    yield made
    made.stop()


def test_conversations_that_branch_come_back_from_disk(model: LanguageModel, small: WithDisk) -> None:
    """More of them than memory holds, at random, several at a time."""
    choose = random.Random(5)
    stems = [prompt(model, 900 + i, 130) for i in range(3)]
    for turn in range(25):
        rows = []
        for i in range(choose.randrange(1, 4)):
            stem = choose.choice(stems)
            text = [
                *stem[: choose.randrange(1, len(stem))],
                *prompt(model, 10 * turn + i, choose.randrange(1, 40)),
            ]
            rows.append(Sequence(f"{turn}.{i}", text, choose.randrange(1, 12)))
        expected = [reference_without_stop(model, row.prompt, row.max_tokens) for row in rows]
        assert written(small.batch, rows, after=choose.randrange(3)) == expected
        assert small.batch.held_tokens == 0
    assert small.disk.hits > 5
    assert small.disk.damaged == 0


def test_a_prompt_is_read_from_disk_in_parts_beside_those_who_write(
    model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = prompt(model, 1, 40 * BLOCK)
    first = WithDisk(model, tmp_path, 200)
    [answer] = written(first.batch, [Sequence("first", tokens, 5)])
    first.stop()

    second = WithDisk(model, tmp_path, 200)
    monkeypatch.setattr(paged_prefill, "PREFILL_BUDGET_BUSY_S", 1e-9)  # a block in each step
    writer, late, short = (
        Sequence("writer", prompt(model, 2, 10), 100),
        Sequence("late", tokens, 5),
        Sequence("short", prompt(model, 3, 10), 5),
    )
    second.batch.add(writer)
    while writer.generated < 3:
        second.batch.step()
    second.batch.add(late)
    second.batch.add(short)
    found: dict[Sequence, list[int]] = {late: [], short: [], writer: []}
    while not late.generated:
        before = writer.generated
        for output in second.batch.step():
            assert output.error is None
            if output.token is not None:
                found[output.sequence].append(output.token)
        assert writer.generated == before + 1
    assert late.cached == 39 * BLOCK
    assert second.disk.hits == 39
    assert short.generated == 5, "it did not wait for the disk"
    assert found[late] == answer[: len(found[late])]
    second.stop()


def test_a_prompt_can_be_removed_while_it_is_read_from_disk(
    model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = prompt(model, 1, 20 * BLOCK)
    first = WithDisk(model, tmp_path, 200)
    [answer] = written(first.batch, [Sequence("first", tokens, 5)])
    first.stop()

    second = WithDisk(model, tmp_path, 200)
    monkeypatch.setattr(paged_prefill, "PREFILL_BUDGET_IDLE_S", 1e-9)
    row = Sequence("leaves", tokens, 5)
    second.batch.add(row)
    for _ in range(3):
        assert not second.batch.step()
    assert 0 < second.disk.hits < 19
    second.batch.remove(row)
    assert not second.batch.busy
    assert second.batch.held_tokens == 0
    again = Sequence("comes back", tokens, 5)
    assert written(second.batch, [again]) == [answer]
    assert again.cached == 19 * BLOCK
    second.stop()


def test_equal_prompts_are_read_from_disk_once(model: LanguageModel, tmp_path: Path) -> None:
    tokens = prompt(model, 1, 20 * BLOCK)
    first = WithDisk(model, tmp_path, 200)
    [answer] = written(first.batch, [Sequence("first", tokens, 5)])
    first.stop()

    second = WithDisk(model, tmp_path, 200)
    rows = [Sequence(i, tokens, 5) for i in range(3)]
    assert written(second.batch, rows) == [answer] * 3
    assert [row.cached for row in rows] == [19 * BLOCK] * 3
    assert second.disk.hits == 19
    second.stop()


def test_a_preempted_text_finds_what_it_had(model: LanguageModel, small: WithDisk) -> None:
    rows = [Sequence(i, prompt(model, 40 + i, 100), 120) for i in range(3)]
    assert written(small.batch, rows) == [reference_without_stop(model, row.prompt, 120) for row in rows]
    assert small.batch.preemptions


def test_a_text_that_is_not_finished_at_the_stop_is_kept_too(model: LanguageModel, tmp_path: Path) -> None:
    first = WithDisk(model, tmp_path, 200)
    row = Sequence("unfinished", prompt(model, 1, 60), 200)
    first.batch.add(row)
    while row.generated < 100:
        first.batch.step()
    tokens = list(row.tokens)
    first.stop()
    second = WithDisk(model, tmp_path, 200)
    again = Sequence("again", [*tokens, 5], 3)
    assert written(second.batch, [again]) == [reference_without_stop(model, again.prompt, 3)]
    assert again.cached >= len(tokens) // BLOCK * BLOCK
    second.stop()
