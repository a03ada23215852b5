"""Bit masks over logits, bit by bit."""

import threading

import mlx.core as mx
import numpy as np
import pytest

from models.language.batch.masking import apply_bitmask


@pytest.mark.parametrize("vocabulary", [1, 31, 32, 33, 97, 320, 1001])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_each_bit_rules_its_own_token(vocabulary: int, dtype: mx.Dtype) -> None:
    rng = np.random.default_rng(vocabulary)
    logits = rng.standard_normal((3, vocabulary), dtype=np.float32)
    words = -(-vocabulary // 32)
    mask = rng.integers(0, 1 << 32, (3, words), dtype=np.uint32)
    mask[1] = 0xFFFFFFFF
    given = mx.array(logits).astype(dtype)
    result = apply_bitmask(given, mask)
    assert result.dtype == dtype
    before, after = np.array(given.astype(mx.float32)), np.array(result.astype(mx.float32))
    for row in range(3):
        for token in range(vocabulary):
            allowed = int(mask[row, token // 32]) >> (token % 32) & 1
            assert after[row, token] == (before[row, token] if allowed else -np.inf)


def test_signed_words_are_the_same_bits() -> None:
    mask = np.array([[-1, 5]], dtype=np.int32)
    kept = np.isfinite(np.array(apply_bitmask(mx.zeros((1, 40)), mask)))[0]
    assert np.nonzero(kept)[0].tolist() == [*range(32), 32, 34]


def test_a_mask_of_another_width_or_batch_is_refused() -> None:
    for shape in ((2, 3), (1, 2)):
        with pytest.raises(ValueError, match=r"a mask of \(2, 2\) words"):
            apply_bitmask(mx.zeros((2, 40)), np.zeros(shape, dtype=np.uint32))


def test_another_thread_may_mask_after_the_first() -> None:
    kept: list[float] = []

    def work() -> None:
        kept.append(apply_bitmask(mx.ones((1, 40)), np.full((1, 2), 2, dtype=np.uint32)).max().item())

    def work_and_clear() -> None:
        work()
        mx.clear_streams()

    work()
    thread = threading.Thread(target=work_and_clear)
    thread.start()
    thread.join()
    assert kept == [1.0, 1.0]
