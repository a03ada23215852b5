"""A batch in blocks: its pool is never exceeded, beginnings are shared, and every sequence writes what it writes alone."""

import mlx.core as mx
import pytest

from models.language.batch import paged_rows
from models.language.batch.batch import Batch
from models.language.batch.options import Sampling
from models.language.batch.paged_prefill import shared_out
from models.language.batch.sequence import Sequence
from models.language.cache.prefix_cache import PrefixCache
from models.language.load import LanguageModel
from models.language.paged.table import BLOCK
from tests.models.language.batch.test_batch import prompt, reference_without_stop, toy, written

MUCH = 10**9


@pytest.fixture(scope="module", params=["llama", "gemma3", "mistral", "qwen3, 8 bits", "qwen3, 4 bits"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    family, _, bits = request.param.partition(", ")
    made = toy(family)
    if bits:
        made.kv_bits, made.kv_group = int(bits.split()[0]), 32
    return made


def batch_for(model: LanguageModel, blocks: int, keep: int = MUCH) -> Batch:
    batch = Batch(model.model, model.vocab, model.new_cache, PrefixCache(keep), 16, capacity=blocks * BLOCK)
    assert batch.network is not None
    return batch


def alone(model: LanguageModel, row: Sequence) -> list[int]:
    """What the sequence writes by itself, in a pool that is large."""
    again = Sequence(0, row.prompt, row.max_tokens, row.sampling)
    return written(batch_for(model, 200, keep=0), [again])[0]


def sequences(model: LanguageModel, lengths: list[int], count: int) -> list[Sequence]:
    return [Sequence(i, prompt(model, i, length), count) for i, length in enumerate(lengths)]


def test_all_networks_write_what_mlx_lm_writes(model: LanguageModel) -> None:
    rows = sequences(model, [1, 31, 32, 33, 200, 7], 40)
    found = written(batch_for(model, 40), rows)
    if model.kv_bits is None:
        assert found == [reference_without_stop(model, row.prompt, 40) for row in rows]
    else:
        assert found == [alone(model, row) for row in rows]


def test_a_pool_that_is_too_small_for_all_makes_some_wait(model: LanguageModel) -> None:
    batch = batch_for(model, 8, keep=0)
    rows = sequences(model, [70, 80, 90, 40], 10)
    for row in rows:
        batch.add(row)
    found: dict[Sequence, list[int]] = {row: [] for row in rows}
    together = []
    while batch.busy:
        for output in batch.step():
            assert output.error is None
            if output.token is not None:
                found[output.sequence].append(output.token)
        together.append(batch.decoding)
        assert batch.held_tokens <= 8 * BLOCK
    assert max(together) == 2
    assert list(found.values()) == [alone(model, row) for row in rows]
    assert batch.held_tokens == 0


@pytest.mark.parametrize("keep", [0, MUCH])
def test_the_youngest_give_their_blocks_back_and_go_on_later(model: LanguageModel, keep: int) -> None:
    batch = batch_for(model, 8, keep)
    rows = [
        Sequence(0, prompt(model, 0, 60), 90),
        Sequence(1, prompt(model, 1, 50), 80, Sampling(temperature=0.8, seed=5), logprobs=2),
        Sequence(2, prompt(model, 2, 3), 60),
    ]
    found = written(batch, rows)
    assert batch.preemptions >= 1
    assert found == [alone(model, row) for row in rows]
    assert rows[1].generated == 80
    assert batch.held_tokens == 0


def test_a_conversation_that_grows_is_not_read_again(model: LanguageModel) -> None:
    batch = batch_for(model, 60)
    text = prompt(model, 1, 45)
    for turn in range(5):
        row = Sequence(turn, text, 20)
        expected = alone(model, row)
        [answer] = written(batch, [row])
        assert answer == expected
        # All but the answer's last token, which was never fed.
        assert row.cached == (len(text) - 9 if turn else 0)
        text = [*text, *answer, *prompt(model, 100 + turn, 8)]
    # Branches go off from any place.
    branches = [Sequence(at, [*text[:at], *prompt(model, at, 9)], 6) for at in (10, 64, 101)]
    written(batch, branches)
    assert [row.cached for row in branches] == [10, 64, 101]
    assert [alone(model, row) for row in branches] == written(
        batch, [Sequence(row.id, row.prompt, 6) for row in branches]
    )


@pytest.mark.parametrize("longest", [0, 70, 2048])
def test_a_row_has_company_for_a_while(
    model: LanguageModel, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paged_rows, "LONGEST", longest)
    batch = batch_for(model, 60)
    rows = [Sequence(0, prompt(model, 0, 40), 60), Sequence(1, prompt(model, 1, 35), 9)]
    found: dict[Sequence, list[int]] = {row: [] for row in rows}
    batch.add(rows[0])
    while batch.busy:
        for output in batch.step():
            if output.token is not None:
                found[output.sequence].append(output.token)
        if len(found[rows[0]]) == 12:
            batch.add(rows[1])
    monkeypatch.undo()
    assert list(found.values()) == [alone(model, row) for row in rows]
    # What it wrote by itself is in its blocks.
    more = Sequence(2, [*rows[0].prompt, *found[rows[0]], 7, 8], 9)
    assert written(batch, [more]) == [alone(model, more)]
    assert more.cached == 99


def test_nothing_is_held_once_all_have_their_last_token(model: LanguageModel) -> None:
    batch = batch_for(model, 60)
    batch.add(Sequence(0, prompt(model, 1, 70), 5))
    while not any(output.finish for output in batch.step()):
        assert batch.busy
    assert not batch.busy
    assert batch.held_tokens == 0
    assert batch.kept_entries == 3


def test_equal_prompts_that_come_together_are_read_once(model: LanguageModel) -> None:
    batch = batch_for(model, 60)
    tokens = prompt(model, 3, 200)
    rows = [Sequence(i, tokens, 10, Sampling(temperature=0.7, seed=i)) for i in range(4)]
    found = written(batch, rows)
    assert [row.cached for row in rows] == [0, 192, 192, 192]
    assert found == [alone(model, row) for row in rows]


def test_keys_that_are_not_finite_spoil_no_later_text() -> None:
    model = toy("llama")
    embedding = model.model.model.embed_tokens
    sound = embedding.weight
    batch = batch_for(model, 12)
    rows = sequences(model, [70, 80], 4)
    expected = [alone(model, row) for row in rows]
    embedding.weight = sound * mx.array(float("nan"))
    batch.add(Sequence("bad", prompt(model, 5, 150), 4))
    outputs = [output for _ in range(50) if batch.busy for output in batch.step()]
    assert "NaN" in (outputs[-1].error or "")
    embedding.weight = sound
    assert written(batch, rows) == expected


def test_a_sequence_that_was_preempted_or_is_being_read_can_be_removed(model: LanguageModel) -> None:
    batch = batch_for(model, 8, keep=0)
    rows = sequences(model, [90, 90, 200], 90)
    for row in rows:
        batch.add(row)
    while not batch.preemptions:
        batch.step()
    for row in rows:
        batch.remove(row)
    assert not batch.busy
    assert batch.held_tokens == 0


@pytest.mark.parametrize(
    ("budget", "left", "runs"),
    [
        (100, [30, 40, 20], [30, 40, 20]),
        (100, [70, 60, 20], [70, 30, 0]),
        (100, [500], [100]),
        (100, [500, 30, 700], [35, 30, 35]),
        (100, [500, 60, 60, 700], [13, 60, 15, 12]),
        (10, [0, 99], [0, 10]),
        (100, [], []),
    ],
)
def test_prompts_share_a_call(budget: int, left: list[int], runs: list[int]) -> None:
    assert shared_out(budget, left) == runs
