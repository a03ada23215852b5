"""Each row by its own options, whoever else is in the batch."""

import threading

import mlx.core as mx
import numpy as np
import pytest

from models.language.batch import sampling
from models.language.batch.options import Sampling
from models.language.batch.sampling import Sampler, apply_bitmask

VOCAB = 97


def logits(rows: int, seed: int = 0) -> mx.array:
    return mx.array(np.random.default_rng(seed).normal(size=(rows, VOCAB)).astype(np.float32) * 2)


def draws(row: Sampling, scores: mx.array, times: int = 200, history: list[int] | None = None) -> list[int]:
    """What one row draws from the same logits, step after step."""
    sampler = Sampler([row], [history or []], [0], VOCAB)
    return [int(sampler(scores, mx.array([0], dtype=mx.uint32)).item()) for _ in range(times)]


def test_temperature_zero_takes_the_largest_logit() -> None:
    scores = logits(1)
    assert set(draws(Sampling(), scores, 5)) == {int(mx.argmax(scores).item())}


def test_top_k_of_one_is_greedy_at_any_temperature() -> None:
    scores = logits(1)
    assert set(draws(Sampling(temperature=5.0, top_k=1), scores, 20)) == {int(mx.argmax(scores).item())}


def test_top_k_lets_the_k_best_through() -> None:
    scores = logits(1)
    best = set(np.argsort(-np.array(scores[0]))[:5].tolist())
    assert set(draws(Sampling(temperature=10.0, top_k=5), scores, 400)) == best


def test_top_k_above_the_vocabulary_means_all_of_it() -> None:
    scores = logits(1)
    assert draws(Sampling(temperature=1.0, top_k=10**9, seed=4), scores) == draws(
        Sampling(temperature=1.0, seed=4), scores
    )


def test_top_p_keeps_the_smallest_set_with_that_mass() -> None:
    scores = logits(1)
    probabilities = np.exp(np.array(scores[0], dtype=np.float64))
    probabilities /= probabilities.sum()
    order = np.argsort(-probabilities)
    count = int(np.searchsorted(np.cumsum(probabilities[order]), 0.6)) + 1
    assert set(draws(Sampling(temperature=10.0, top_p=0.6), scores, 600)) == set(order[:count].tolist())


def test_top_p_of_zero_keeps_the_most_likely_token() -> None:
    scores = logits(1)
    assert set(draws(Sampling(temperature=1.0, top_p=0.0), scores, 20)) == {int(mx.argmax(scores).item())}


def test_min_p_drops_what_is_less_likely_than_that_share_of_the_best() -> None:
    scores = logits(1)
    probabilities = np.exp(np.array(scores[0], dtype=np.float64))
    allowed = set(np.flatnonzero(probabilities >= 0.3 * probabilities.max()).tolist())
    assert set(draws(Sampling(temperature=10.0, min_p=0.3), scores, 400)) == allowed


def test_draws_follow_the_distribution() -> None:
    scores = mx.array([[0.0, 1.0, 2.0] + [-1e9] * (VOCAB - 3)])
    counts = np.bincount(draws(Sampling(temperature=1.0, seed=1), scores, 3000), minlength=3)[:3]
    expected = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    assert np.abs(counts / 3000 - expected).max() < 0.03


def test_a_seed_draws_the_same_alone_and_in_company() -> None:
    rows = [
        Sampling(temperature=0.9, seed=7),
        Sampling(temperature=0.7, top_k=11, seed=7),
        Sampling(),
        Sampling(temperature=1.3, top_p=0.8, min_p=0.02, seed=2**64 - 1),
    ]
    scores = logits(4, seed=3)
    together = Sampler(rows, [[]] * 4, [5] * 4, VOCAB)(scores, mx.zeros((4,), dtype=mx.uint32)).tolist()
    alone = [
        Sampler([row], [[]], [5], VOCAB)(scores[i : i + 1], mx.zeros((1,), dtype=mx.uint32)).item()
        for i, row in enumerate(rows)
    ]
    assert together == alone


def test_a_sampler_made_anew_goes_on_where_the_last_one_was() -> None:
    row, scores = Sampling(temperature=1.0, seed=3), logits(1)
    whole = draws(row, scores, 12)
    rest = Sampler([row], [[]], [6], VOCAB)
    assert [int(rest(scores, mx.array([0])).item()) for _ in range(6)] == whole[6:]


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63, 2**64 - 1])
def test_different_seeds_have_different_keys(seed: int) -> None:
    assert Sampling(seed=seed).key != Sampling(seed=(seed + 1) % 2**64).key
    assert all(0 <= word < 2**32 for word in Sampling(seed=seed).key)


def penalized(row: Sampling, history: list[int], current: int) -> np.ndarray:
    """The reference: the definition, in NumPy."""
    scores = np.array(logits(1)[0])
    fed = [*history, current]
    window = fed if row.repeat_last_n < 0 else fed[-row.repeat_last_n :]
    for token in set(window):
        value = scores[token]
        value = value / row.repeat_penalty if value > 0 else value * row.repeat_penalty
        scores[token] = value - window.count(token) * row.frequency_penalty - row.presence_penalty
    return scores


@pytest.mark.parametrize("window", [1, 3, 8, 64, 2**31 - 1, -1])
def test_penalties_look_back_as_far_as_they_are_told(window: int) -> None:
    row = Sampling(
        repeat_last_n=window, repeat_penalty=1.7, presence_penalty=0.6, frequency_penalty=0.9, temperature=0
    )
    history = [5, 9, 5, 40, 41, 5, 60, 2, 9]
    none = Sampling(repeat_last_n=0, repeat_penalty=2.0)
    sampler = Sampler([row, none], [history, []], [0, 0], VOCAB)
    assert sampler._history.shape[1] <= len(history) + 1 + sampling.LIFETIME, "no more than can be filled"
    table = sampling._penalized(
        mx.concatenate([logits(1), logits(1)]),
        mx.concatenate([sampler._history[:, 1:], mx.array([[7], [7]], dtype=mx.uint32)], axis=1),
        sampler._window,
        sampler._repeat,
        sampler._presence,
        sampler._frequency,
    )
    assert np.allclose(np.array(table[0]), penalized(row, history, 7), atol=1e-6)
    assert np.array_equal(np.array(table[1]), np.array(logits(1)[0])), "a row with no window is left alone"


def test_penalties_with_no_window_do_nothing() -> None:
    assert not Sampling(repeat_last_n=0, repeat_penalty=2.0).penalizes


def test_bias_moves_single_tokens() -> None:
    scores = logits(1)
    assert set(draws(Sampling(bias={13: 100.0}), scores, 3)) == {13}
    best = int(mx.argmax(scores).item())
    assert best not in draws(Sampling(bias={best: -100.0}), scores, 3)


def test_logprobs_are_those_of_the_model() -> None:
    scores = logits(2)
    chosen, ids, values = sampling.logprobs(scores, mx.array([3, 4]), 5)
    expected = np.array(scores) - np.log(np.exp(np.array(scores)).sum(-1, keepdims=True))
    assert np.allclose(np.array(chosen), [expected[0, 3], expected[1, 4]], atol=1e-5)
    assert np.array(ids).tolist() == np.argsort(-expected, axis=-1)[:, :5].tolist()
    assert np.allclose(np.array(values), -np.sort(-expected, axis=-1)[:, :5], atol=1e-5)


@pytest.mark.parametrize("vocabulary", [1, 31, 32, 33, 97, 320, 1001])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_each_bit_rules_its_own_token(vocabulary: int, dtype: mx.Dtype) -> None:
    rng = np.random.default_rng(vocabulary)
    values = rng.standard_normal((3, vocabulary), dtype=np.float32)
    words = -(-vocabulary // 32)
    mask = rng.integers(0, 1 << 32, (3, words), dtype=np.uint32)
    mask[1] = 0xFFFFFFFF
    scores = mx.array(values).astype(dtype)
    result = apply_bitmask(scores, mask)
    assert result.dtype == dtype
    before, after = np.array(scores.astype(mx.float32)), np.array(result.astype(mx.float32))
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
        with pytest.raises(ValueError, match=r"need \(2, 2\) words"):
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
