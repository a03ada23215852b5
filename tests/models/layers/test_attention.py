"""Attention by pieces on a processor: the same numbers, and memory that grows with the tokens alone."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from models.layers import attention
from models.layers.attention import CHUNK, chunk_shape, on_cpu, softmax_attention

on_a_processor = pytest.mark.skipif(not on_cpu(), reason="a GPU never holds the scores")


def random_heads(*shape: int, seed: int = 1) -> list[mx.array]:
    """Queries, keys and values, laid out as projections leave them: (batch, head, token, channel) by a view."""
    batch, heads, tokens, channels = shape
    keys = mx.random.split(mx.random.key(seed), 3)
    return [mx.random.normal((batch, tokens, heads, channels), key=key).transpose(0, 2, 1, 3) for key in keys]


def exact(q: mx.array, k: mx.array, v: mx.array, scale: float) -> np.ndarray:
    a, b, c = (np.array(x).astype(np.float64) for x in (q, k, v))
    scores = a @ b.swapaxes(-1, -2) * scale
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(weights @ c / weights.sum(-1, keepdims=True))


def distance(actual: mx.array, expected: np.ndarray) -> float:
    return float(np.abs(np.array(actual).astype(np.float64) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("chunk", [1, 5000, 70_000, CHUNK])
@pytest.mark.parametrize("shape", [(1, 4, 300, 16), (2, 3, 129, 8), (1, 1, 1, 4)])
def test_pieces_of_any_size_give_exact_attention(
    monkeypatch: pytest.MonkeyPatch, chunk: int, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr(attention, "CHUNK", chunk)
    q, k, v = random_heads(*shape)
    assert distance(softmax_attention(q, k, v, 0.25), exact(q, k, v, 0.25)) < 1e-6


def test_scores_that_are_far_apart_do_not_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "CHUNK", 5000)
    q, k, v = random_heads(1, 2, 100, 8)
    assert distance(softmax_attention(q * 300, k, v, 1.0), exact(q * 300, k, v, 1.0)) < 1e-3


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_a_step_that_is_compiled_attends_by_pieces_too(
    monkeypatch: pytest.MonkeyPatch, dtype: mx.Dtype
) -> None:
    monkeypatch.setattr(attention, "CHUNK", 5000)
    q, k, v = (x.astype(dtype) for x in random_heads(1, 2, 200, 16))
    step: Any = mx.compile(lambda q, k, v: softmax_attention(q, k, v, 0.25))
    whole = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.25).astype(mx.float32)
    error = distance(step(q, k, v).astype(mx.float32), np.array(whole))
    assert error < (1e-6 if dtype == mx.float32 else 0.02)


@on_a_processor
def test_memory_grows_with_the_tokens_and_not_with_their_square() -> None:
    q, k, v = random_heads(1, 4, 6000, 8)
    mx.eval(q, k, v)
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    mx.eval(softmax_attention(q, k, v, 0.25))
    # Beside the scores: keys in one chunk, and what comes out, as pieces and joined. All scores would be 576 MB.
    assert mx.get_peak_memory() - before < 2 * CHUNK + 4 * q.nbytes


def test_many_tokens_are_a_head_at_a_time_and_products_stay_wide_enough() -> None:
    assert chunk_shape((1, 4, 100, 64), 100, 4) == (4, 100)
    assert chunk_shape((1, 4, 4608, 64), 4608, 4) == (1, CHUNK // (4 * 4608))
    assert chunk_shape((1, 4, 66_048, 64), 66_048, 4) == (1, 120)
