"""Drafts change how fast a text is written, and nothing else."""

from collections.abc import Sequence as Items
from typing import Any

import numpy as np
import pytest

from models.language.batch.batch import Batch
from models.language.batch.options import Drafting, Sampling
from models.language.batch.sequence import Output, Sequence
from models.language.cache.prefix_cache import PrefixCache
from models.language.load import LanguageModel
from models.language.speculate.drafter import RowDrafter
from models.language.speculate.policy import Price
from tests.models.language.batch.test_batch import prompt, toy

FAMILIES = ["llama", "qwen3", "qwen3, 8 bits", "gemma3", "mistral"]
SEEDED = Sampling(temperature=1.0, top_p=0.95, seed=11)
PENALIZED = Sampling(temperature=0.7, repeat_penalty=1.2, presence_penalty=0.3, seed=12)


class Oracle:
    """Drafts what will be written, with mistakes; by the number of the text."""

    def __init__(self, texts: dict[Any, list[int]], seed: int, share: float = 0.8) -> None:
        self._texts = texts
        self._rng = np.random.default_rng(seed)
        self._share = share
        self.learned: list[tuple[int, int]] = []
        self.forgotten: list[Sequence] = []

    def due(self, rows: Items[Sequence]) -> bool:
        return bool(self._rng.random() < 0.7)

    def propose(self, rows: Items[Sequence], pending: Items[int]) -> list[list[int]]:
        return [self._draft(row) if row.drafting.enabled else [] for row in rows]

    def _draft(self, row: Sequence) -> list[int]:
        written = len(row.tokens) + 1 - len(row.prompt)
        coming = self._texts[row.id][written : written + int(self._rng.integers(0, row.drafting.most + 1))]
        return [token if self._rng.random() < self._share else 7 for token in coming]

    def learn(self, rows: Items[Sequence], drafted: Items[int], right: Items[int], seconds: float) -> None:
        assert seconds > 0
        self.learned += zip(drafted, right, strict=True)

    def forget(self, row: Sequence) -> None:
        self.forgotten.append(row)


class Unmeasured(Price):
    """Steps on a busy machine take any time."""

    def learn(self, tokens: int, seconds: float) -> None:
        assert seconds > 0


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    family, _, bits = request.param.partition(", ")
    made = toy(family)
    if bits:
        made.kv_bits, made.kv_group = int(bits.split()[0]), 32
    return made


def batch_for(
    model: LanguageModel, drafter: Any = None, capacity: int | None = None, cache_bytes: int = 0
) -> Batch:
    return Batch(
        model.model,
        model.vocab,
        model.new_cache,
        PrefixCache(cache_bytes),
        16,
        capacity=capacity,
        drafter=drafter,
    )


def sequences(model: LanguageModel, count: int = 60, **fields: Any) -> list[Sequence]:
    options = [Sampling(), SEEDED, PENALIZED, Sampling(), SEEDED]
    return [
        Sequence(
            at, prompt(model, at, 5 + 9 * at), count, sampling, drafting=Drafting(5, lookup=at != 3), **fields
        )
        for at, sampling in enumerate(options)
    ]


def outputs(batch: Batch, rows: list[Sequence], after: int = 2) -> dict[Any, list[Output]]:
    found: dict[Any, list[Output]] = {row.id: [] for row in rows}
    waiting, steps = list(rows), 0
    while batch.busy or waiting:
        if waiting and steps % after == 0:
            batch.add(waiting.pop(0))
        for output in batch.step():
            found[output.sequence.id].append(output)
        steps += 1
        assert steps < 3000
    for row in rows:
        assert found[row.id][-1].finish, found[row.id][-1].error
        assert not any(output.finish or output.error for output in found[row.id][:-1])
    return found


def texts(found: dict[Any, list[Output]]) -> dict[Any, list[int]]:
    return {id: [o.token for o in items if o.token is not None] for id, items in found.items()}


def assert_same(
    model: LanguageModel, found: dict[Any, list[Output]], expected: dict[Any, list[Output]]
) -> None:
    """The same tokens, from the same probabilities; asks for rows with `logprobs=2`.

    A key that differs by a rounding may be quantized to another level. So a text over quantized keys may take the other of two tokens
    as likely as each other, and goes its own way from there.
    """
    tolerance = 1e-3 if model.kv_bits is None else 0.02
    for id, theirs in expected.items():
        for mine, other in zip(found[id], theirs, strict=True):
            assert (mine.logprob is None) == (other.logprob is None)
            if mine.logprob is None or other.logprob is None:
                assert mine.token == other.token
                continue
            assert mine.logprob.top[0][1] == pytest.approx(other.logprob.top[0][1], abs=tolerance)
            (first, likely), (second, next_likely) = other.logprob.top[:2]
            if mine.token != other.token and model.kv_bits is not None:
                assert {mine.token, other.token} == {first, second}
                assert likely == pytest.approx(next_likely, abs=tolerance)
                break
            assert mine.token == other.token
            assert mine.logprob.logprob == pytest.approx(other.logprob.logprob, abs=tolerance)
            assert mine.finish == other.finish


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_texts_are_the_same_with_drafts_as_without(model: LanguageModel, seed: int) -> None:
    stop = frozenset(model.stop_tokens)
    expected = outputs(batch_for(model), sequences(model, stop_tokens=stop, logprobs=2))
    oracle = Oracle(texts(expected), seed)
    batch = batch_for(model, oracle)
    assert batch.why_no_drafts == ""
    rows = sequences(model, stop_tokens=stop, logprobs=2)
    found = outputs(batch, rows)
    assert_same(model, found, expected)
    for row in rows:
        accepted = sum(output.accepted for output in found[row.id])
        assert row.drafted >= accepted
        assert (accepted > 0) == row.drafting.enabled
    assert sum(row.drafted for row in rows) == sum(drafted for drafted, _ in oracle.learned)
    assert set(oracle.forgotten) == set(rows)


def test_a_text_drafted_by_lookup_takes_fewer_steps(model: LanguageModel) -> None:
    def run(drafting: Drafting) -> tuple[list[int], int]:
        row = Sequence(0, prompt(model, 3, 20), 80, stop_tokens=frozenset(), drafting=drafting)
        batch = batch_for(model, RowDrafter(price=Unmeasured()))
        batch.add(row)
        written, steps = [], 0
        while batch.busy:
            written += [output.token for output in batch.step()]
            steps += 1
        return written, steps

    plain, steps = run(Drafting())
    predicted, fewer = run(Drafting(16, lookup=True, prediction=tuple(plain)))
    assert predicted == plain
    assert fewer < steps / 3


def test_rows_that_give_their_memory_up_write_the_same(model: LanguageModel) -> None:
    expected = outputs(batch_for(model), sequences(model, 120, logprobs=2), after=1)
    batch = batch_for(model, Oracle(texts(expected), 5), capacity=256)
    assert_same(model, outputs(batch, sequences(model, 120, logprobs=2), after=1), expected)
    assert batch.preemptions


def test_what_was_drafted_and_is_remembered_is_what_was_written(model: LanguageModel) -> None:
    first = sequences(model, 40)
    expected = texts(outputs(batch_for(model), first))
    batch = batch_for(model, Oracle(expected, 6), cache_bytes=2**30)
    outputs(batch, sequences(model, 40))

    def follow() -> list[Sequence]:
        return [
            Sequence(
                row.id,
                row.prompt + expected[row.id] + [9, 8],
                20,
                row.sampling,
                drafting=Drafting(5, lookup=True),
            )
            for row in first
        ]

    again = follow()
    assert texts(outputs(batch, again)) == texts(outputs(batch_for(model), follow()))
    assert all(row.cached >= 32 for row in again if len(row.prompt) > 40)


def test_a_network_without_blocks_says_that_nothing_is_drafted() -> None:
    model = toy("lfm2")
    batch = batch_for(model, RowDrafter())
    assert "not kept in blocks" in batch.why_no_drafts
    row = Sequence(0, prompt(model, 1, 9), 5, drafting=Drafting(5, lookup=True))
    outputs(batch, [row])
    assert row.drafted == 0
