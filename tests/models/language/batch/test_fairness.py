"""Prompts are read by priority, long ones take turns, and none waits for ever: in blocks and in caches of mlx-lm's kinds."""

from collections.abc import Iterator

import pytest

from models.language.batch.batch import Batch
from models.language.batch.prefill import PrefillBudget
from models.language.batch.sequence import Sequence
from models.language.cache.prefix_cache import PrefixCache
from models.language.load import LanguageModel
from models.language.paged.table import BLOCK
from models.waiting_queue import MOST_OVERTAKING
from tests.models.language.batch.test_batch import prompt, reference_without_stop, toy

CALL = 64  # tokens that one call reads


@pytest.fixture(scope="module")
def paged() -> LanguageModel:
    return toy("llama")


@pytest.fixture(scope="module", params=["llama", "qwen3_next"])
def model(request: pytest.FixtureRequest, paged: LanguageModel) -> LanguageModel:
    return paged if request.param == "llama" else toy(request.param)


@pytest.fixture(autouse=True)
def small_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PrefillBudget, "_tokens", lambda self, busy: CALL)


def batch_for(model: LanguageModel, rows: int = 16, blocks: int = 500) -> Batch:
    return Batch(model.model, model.vocab, model.new_cache, PrefixCache(0), rows, capacity=blocks * BLOCK)


def begun(batch: Batch) -> Iterator[str]:
    """The names of sequences in the order of their first tokens."""
    seen = set()
    while batch.busy:
        for output in batch.step():
            assert output.error is None
            if output.sequence not in seen:
                seen.add(output.sequence)
                yield str(output.sequence.id)


def test_what_waits_is_read_by_priority_and_then_by_arrival(model: LanguageModel) -> None:
    batch = batch_for(model, rows=1)
    for at, (name, priority) in enumerate([("a", 1), ("b", 0), ("c", 5), ("d", -2), ("e", 0)]):
        batch.add(Sequence(name, prompt(model, at, 10), 2, priority=priority))
    assert list(begun(batch)) == ["d", "b", "e", "a", "c"]


def test_urgent_prompts_that_keep_coming_starve_none(model: LanguageModel) -> None:
    batch = batch_for(model, rows=1)
    batch.add(Sequence("patient", prompt(model, 0, 10), 2, priority=1000))
    urgent = 0
    for _ in range(3):
        batch.add(Sequence("urgent", prompt(model, 1, 10), 2, priority=-1))
    for name in begun(batch):
        if name == "patient":
            break
        urgent += 1
        batch.add(Sequence("urgent", prompt(model, 1, 10), 2, priority=-1))
    assert urgent == MOST_OVERTAKING


def test_long_prompts_take_turns_and_short_ones_pass_between_them(paged: LanguageModel) -> None:
    batch = batch_for(paged)
    long = [Sequence(f"long {i}", prompt(paged, i, 1000 + 100 * i), 3) for i in range(3)]
    for row in long:
        batch.add(row)
    steps = 0
    waited: dict[Sequence, int] = {}
    first: dict[Sequence, int] = {}
    while batch.busy:
        if steps % 4 == 0 and len(waited) < 30:
            row = Sequence(f"short {steps}", prompt(paged, 50 + steps, 20), 3)
            waited[row] = steps
            batch.add(row)
        before = [len(row.tokens) for row in long]
        for output in batch.step():
            first.setdefault(output.sequence, steps)
        steps += 1
        if steps > 1:
            # All that take more than a call have come forward, and evenly.
            moved = [
                len(row.tokens) - had
                for row, had in zip(long, before, strict=True)
                if len(row.prompt) - 1 - had > CALL
            ]
            assert all(moved)
            assert max(moved, default=0) - min(moved, default=0) <= 1
    # A short one waits for no long one: it is read in its first call, and its first token comes after the next step.
    assert max(first[row] - came for row, came in waited.items()) <= 3
    assert max(first[row] for row in long) < steps


def test_long_prompts_that_took_turns_write_what_they_write_alone(paged: LanguageModel) -> None:
    batch = batch_for(paged)
    rows = [Sequence(i, prompt(paged, i, length), 6) for i, length in enumerate([400, 30, 700, 5, 300])]
    found: dict[Sequence, list[int]] = {row: [] for row in rows}
    for row in rows:
        batch.add(row)
    while batch.busy:
        for output in batch.step():
            if output.token is not None:
                found[output.sequence].append(output.token)
    assert list(found.values()) == [reference_without_stop(paged, row.prompt, 6) for row in rows]


def test_the_least_urgent_give_their_memory_back_first_and_go_on_before_others_begin(
    paged: LanguageModel,
) -> None:
    batch = batch_for(paged, blocks=8)
    victim = Sequence("victim", prompt(paged, 5, 60), 90, priority=9)
    kept = [
        Sequence("kept", prompt(paged, at, length), count)
        for at, (length, count) in enumerate([(50, 80), (3, 60)])
    ]
    for row in (victim, *kept):  # the victim came first
        batch.add(row)
    went_on: list[bool] = []
    late = Sequence("late", prompt(paged, 6, 5), 3, priority=-100)
    late.on_started = lambda: went_on.append(victim.table is not None)
    while not batch.preemptions:
        batch.step()
    assert victim.resumed is not None
    batch.add(late)
    assert all(output.error is None for _ in iter(lambda: batch.busy, False) for output in batch.step())
    assert went_on == [True]
    assert all(row.resumed is None for row in kept)
    assert victim.generated == 90
