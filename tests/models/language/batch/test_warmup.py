"""What is written before anybody asks: prompts and batches of the sizes that occur, and nothing stays of it."""

from typing import Any

import mlx.core as mx
import pytest

from models.language.batch.batch import Batch
from models.language.batch.sequence import Output, Sequence
from models.language.batch.warmup import BATCH_LENGTHS, SINGLE_LENGTHS, WarmUp
from models.language.cache.prefix_cache import PrefixCache
from tests.models.language.batch.test_batch import toy


class _Heard:
    """A network that notes the shapes it is given."""

    def __init__(self, model: Any) -> None:
        self.model, self.shapes = model, set[tuple[int, ...]]()

    def __call__(self, tokens: mx.array, cache: Any) -> Any:
        self.shapes.add(tokens.shape)
        return self.model(tokens, cache=cache)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def _batch(prefix: PrefixCache) -> tuple[Batch, _Heard, int]:
    made = toy("qwen3")
    heard = _Heard(made.model)
    return Batch(heard, made.vocab, made.new_cache, prefix, 16), heard, made.vocab  # type: ignore[arg-type]


def test_prompts_alone_and_batches_of_every_size_below_eight() -> None:
    prefix = PrefixCache(10**9)
    batch, heard, vocab = _batch(prefix)
    warm_up = WarmUp(heard.model, batch, vocab)
    for _ in warm_up.steps():
        assert not warm_up.done
    assert warm_up.done
    assert {(length - 1, 1) for length in SINGLE_LENGTHS} <= heard.shapes
    assert (sum(length - 1 for length in BATCH_LENGTHS), 1) in heard.shapes
    assert {(rows, 1) for rows in range(1, len(BATCH_LENGTHS) + 1)} <= heard.shapes
    assert not batch.busy
    assert (batch.held_tokens, batch.kept_bytes) == (0, 0)


def test_what_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = PrefixCache(10**9)
    batch, heard, vocab = _batch(prefix)
    warm_up = WarmUp(heard.model, batch, vocab)
    steps = iter(range(9))

    def failing() -> list[Output]:
        if next(steps) == 8:
            raise RuntimeError("no room")
        return Batch.step(batch)

    monkeypatch.setattr(batch, "step", failing)
    with pytest.raises(RuntimeError, match="no room"):
        list(warm_up.steps())
    assert warm_up.done  # it is not tried again
    assert not batch.busy
    assert batch.kept_entries == 0


def test_a_request_in_the_middle_finds_an_empty_batch_and_keeps_its_prompt() -> None:
    prefix = PrefixCache(10**9)
    batch, heard, vocab = _batch(prefix)
    warm_up = WarmUp(heard.model, batch, vocab)
    steps = warm_up.steps()
    for _ in range(24):
        next(steps)
    while not batch.busy:
        next(steps)
    steps.close()
    assert not batch.busy
    assert batch.kept_entries == 0
    batch.add(Sequence("a request", [1, 2, 3, 4, 5] * 9, 4))
    while batch.busy:
        batch.step()
    kept = batch.kept_entries
    assert kept > 0
    list(warm_up.steps())
    assert warm_up.done
    assert batch.kept_entries >= kept
    assert {(rows, 1) for rows in range(1, len(BATCH_LENGTHS) + 1)} <= heard.shapes


def test_it_may_be_interrupted_before_its_first_step_and_again_and_again() -> None:
    batch, heard, vocab = _batch(PrefixCache(0))
    warm_up = WarmUp(heard.model, batch, vocab)
    warm_up.steps().close()
    for count in range(3):
        steps = warm_up.steps()
        for _ in range(count + 1):
            next(steps)
        steps.close()
        assert not batch.busy
    assert not warm_up.done
