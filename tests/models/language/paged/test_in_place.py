"""A pool that kernels write to in place, as on a card: these are replaced by plain operations that do the same."""

from typing import Any

import mlx.core as mx
import pytest

from models.kernels import paged_write
from models.language.batch.batch import Batch
from models.language.batch.sequence import Sequence
from models.language.cache.prefix_cache import PrefixCache
from models.language.paged.pool import KeyValuePool, Layer
from models.language.paged.table import BLOCK
from tests.models.kernels.test_checked import replaced
from tests.models.kernels.test_checked import written as write
from tests.models.language.batch.test_batch import prompt, reference_without_stop, toy, written


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The writes that were made in place."""
    made: list[str] = []

    def counted(*given: Any) -> mx.array:
        made.append("write")
        return write(*given)

    def replace(array: mx.array, rows: mx.array, targets: mx.array) -> mx.array:
        made.append("replace")
        return replaced(array, rows, targets)

    monkeypatch.setattr(paged_write, "works", lambda shape: True)
    monkeypatch.setattr(paged_write.REPLACE_ROWS, "works", lambda dtype: True)
    monkeypatch.setattr(paged_write, "write", counted)
    monkeypatch.setattr(paged_write, "replace", replace)
    return made


def test_a_batch_writes_what_mlx_lm_writes(calls: list[str]) -> None:
    model = toy("llama")
    batch = Batch(model.model, model.vocab, model.new_cache, PrefixCache(10**9), 16, capacity=40 * BLOCK)
    first = [Sequence(i, prompt(model, i, length), 40) for i, length in enumerate((1, 33, 200))]
    # The second time around, a beginning is shared and the block that it ends in is copied.
    again = [Sequence(3, prompt(model, 2, 190), 10)]
    for rows in (first, again):
        expected = [reference_without_stop(model, row.prompt, row.max_tokens) for row in rows]
        assert written(batch, rows) == expected
    assert {*calls} == {"write", "replace"}


def test_blocks_are_copied_wiped_and_restored(calls: list[str]) -> None:
    pool = KeyValuePool([Layer(2, 64, 64, mx.float32, bits=4)], 64)
    x = mx.random.normal((BLOCK, 2, 64), key=mx.random.key(1))
    pool.write(0, mx.full((BLOCK,), 3, mx.int32), mx.arange(BLOCK, dtype=mx.int32), x, -x)
    pool.evaluate()
    kept = pool.export(3)
    pool.copy([(3, 5)])
    pool.wipe([3])
    assert not any(mx.any(part).item() for part in pool.export(3))
    assert all(mx.array_equal(a, b) for a, b in zip(pool.export(5), kept, strict=True))
    pool.restore(7, kept)
    assert all(mx.array_equal(a, b) for a, b in zip(pool.export(7), kept, strict=True))
    assert calls == ["write", *["replace"] * 18]
