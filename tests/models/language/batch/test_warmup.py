"""What is written before anybody asks: prompts and batches of the sizes that occur, and nothing stays of it."""

from typing import Any

import mlx.core as mx
import pytest

from models.language.batch.batch import Batch
from models.language.batch.sequence import Output
from models.language.batch.warmup import BATCH_LENGTHS, SINGLE_LENGTHS, warm
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
    warm(batch, vocab)
    assert {(1, length - 1) for length in SINGLE_LENGTHS} <= heard.shapes
    assert (len(BATCH_LENGTHS), max(BATCH_LENGTHS) - 1) in heard.shapes
    assert {(rows, 1) for rows in range(1, len(BATCH_LENGTHS) + 1)} <= heard.shapes
    assert not batch.busy
    assert (len(prefix), prefix.bytes) == (0, 0)


def test_what_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = PrefixCache(10**9)
    batch, _, vocab = _batch(prefix)
    steps = iter(range(9))

    def failing() -> list[Output]:
        if next(steps) == 8:
            raise RuntimeError("no room")
        return Batch.step(batch)

    monkeypatch.setattr(batch, "step", failing)
    with pytest.raises(RuntimeError, match="no room"):
        warm(batch, vocab)
    assert not batch.busy
    assert len(prefix) == 0
