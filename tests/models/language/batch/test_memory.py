"""A batch whose rows are not in blocks holds keys and values for as many tokens as it may, and every sequence still writes what it writes alone."""

from collections.abc import Iterator

import mlx.core as mx
import pytest

from models.language.batch.batch import Batch
from models.language.batch.options import Sampling
from models.language.batch.prefill import LARGEST
from models.language.batch.sequence import Sequence
from models.language.cache import kv_cache
from models.language.cache.prefix_cache import PrefixCache
from models.language.decode.decoder import Decoder
from models.language.decode.row_groups import GROWTH, RowGroups, padded
from models.language.load import LanguageModel
from models.language.paged.network import PagedNetwork
from tests.models.language.batch.test_batch import (
    compiled_step,
    prompt,
    reference_without_stop,
    toy,
    written,
)


@pytest.fixture(scope="module", params=["llama, padded", "llama, compiled", "gemma3, padded", "qwen3_next"])
def model(request: pytest.FixtureRequest) -> Iterator[LanguageModel]:
    family, _, how = request.param.partition(", ")
    made = toy(family)
    with pytest.MonkeyPatch.context() as patch:
        if how:
            patch.setattr(PagedNetwork, "of", lambda *limits: None)
        if how == "compiled":
            patch.setattr(Decoder, "of", compiled_step)
        yield made


def batch_for(model: LanguageModel, capacity: int | None = None, most_padding: int = 2**30) -> Batch:
    return Batch(
        model.model,
        model.vocab,
        model.new_cache,
        PrefixCache(0),
        capacity=capacity,
        most_padding=most_padding,
    )


def sequences(model: LanguageModel, lengths: list[int], count: int) -> list[Sequence]:
    return [Sequence(i, prompt(model, i, length), count) for i, length in enumerate(lengths)]


@pytest.mark.parametrize("after", [0, 2])
def test_a_long_text_does_not_make_the_others_as_long(model: LanguageModel, after: int) -> None:
    batch = batch_for(model, most_padding=GROWTH)
    rows = sequences(model, [5, 700, 9, 12, 690, 3], 12)
    seen: list[int] = []
    step = batch.step
    batch.step = lambda: (seen.append(batch.held_tokens), step())[1]  # type: ignore[method-assign]
    found = written(batch, rows, after)
    assert found == [reference_without_stop(model, row.prompt, 12) for row in rows]
    # Rows that are read together, at most LARGEST tokens of them, stay together.
    assert max(seen) <= LARGEST + 2 * padded([712]) < padded([712] * len(rows))


def test_sequences_that_do_not_fit_wait_for_those_that_run(model: LanguageModel) -> None:
    batch = batch_for(model, capacity=2 * GROWTH)
    rows = sequences(model, [40, 50, 60, 70], 10)
    for row in rows:
        batch.add(row)
    together = []
    found: dict[Sequence, list[int]] = {row: [] for row in rows}
    while batch.busy:
        for output in batch.step():
            if output.token is not None:
                found[output.sequence].append(output.token)
        together.append(batch.decoding)
        assert batch.held_tokens <= 2 * GROWTH
    assert max(together) == 2
    assert list(found.values()) == [reference_without_stop(model, row.prompt, 10) for row in rows]


def test_the_youngest_give_their_memory_back_and_go_on_later(model: LanguageModel) -> None:
    """Both fit when they begin, but not once they have grown."""
    batch = batch_for(model, capacity=2 * GROWTH + GROWTH // 2)
    rows = [
        Sequence(0, prompt(model, 0, GROWTH - 10), 30),
        Sequence(1, prompt(model, 1, GROWTH - 14), 40, Sampling(temperature=0.8, seed=5), logprobs=2),
    ]
    found = written(batch, rows)
    assert batch.preemptions >= 1
    assert found[0] == reference_without_stop(model, rows[0].prompt, 30)
    alone = Sequence(2, rows[1].prompt, 40, Sampling(temperature=0.8, seed=5), logprobs=2)
    assert [found[1]] == written(batch_for(model), [alone])
    assert rows[1].generated == 40
    assert rows[1].cached == 0


def test_a_sequence_that_is_preempted_can_be_removed(model: LanguageModel) -> None:
    batch = batch_for(model, capacity=2 * GROWTH + GROWTH // 2)
    rows = sequences(model, [GROWTH - 6, GROWTH - 6], 60)
    for row in rows:
        batch.add(row)
    while not batch.preemptions:
        batch.step()
    batch.remove(rows[1])
    assert [output.sequence for output in batch.step()] == [rows[0]]
    batch.remove(rows[0])
    assert not batch.busy
    assert batch.held_tokens == 0


def test_rows_keep_their_places_however_they_are_grouped() -> None:
    backends: list[Recorder] = []

    def new() -> Recorder:
        backends.append(Recorder())
        return backends[-1]

    groups = RowGroups(new, most_padding=100)
    for length in (10, 900, 20, 800, 30):
        groups.join([length], [length])
    assert groups.tokens == padded([10, 20, 30]) + padded([900, 800])
    assert groups.logits(mx.array([0, 1, 2, 3, 4])).tolist() == [
        [10, 0],
        [900, 1],
        [20, 2],
        [800, 3],
        [30, 4],
    ]
    assert groups.extract(3) == [800]
    groups.keep([0, 3, 4])
    assert groups.logits(mx.array([5, 6, 7])).tolist() == [[10, 5], [800, 6], [30, 7]]
    groups.keep([0, 2])
    assert groups.logits(mx.array([1, 2])).tolist() == [[10, 1], [30, 2]]
    groups.join([700], [700])
    assert groups.logits(mx.array([1, 2, 3])).tolist() == [[10, 1], [30, 2], [700, 3]]
    assert len(backends) == 2, "backends without rows are used again"
    groups.clear()
    assert groups.tokens == 0


class Recorder:
    """A backend whose rows are their first lengths."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def join(self, cache: list[int], rows: int) -> None:
        self.rows += cache

    def keep(self, rows: list[int]) -> None:
        self.rows = [self.rows[row] for row in rows]

    def extract(self, row: int) -> list[int]:
        return [self.rows[row]]

    def logits(self, tokens: mx.array) -> mx.array:
        return mx.stack([mx.array(self.rows), tokens], axis=1)

    def clear(self) -> None:
        self.rows = []


def test_a_token_takes_what_its_keys_and_values_take() -> None:
    plain = toy("llama")
    attention = plain.model.model.layers[0].self_attn
    size = attention.k_proj.weight.shape[0]
    cache = plain.new_cache()
    plain.model(mx.zeros((1, 3), mx.uint32), cache=cache)
    layers = len(plain.model.model.layers)
    assert kv_cache.bytes_per_token(cache) == layers * 2 * size * attention.k_proj.weight.dtype.size
