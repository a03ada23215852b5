"""Attention by matrix products: what the fused one gives, for every kind of mask and head, and when it is taken."""

from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models import base, qwen3

from models.kernels import gpu
from models.language.decode import attention
from models.language.decode.attention import (
    CAUSAL,
    MASKED,
    avoids_plan,
    by_products,
    patch_attention,
    round_up,
)

on_a_card = pytest.mark.skipif(not gpu.on_cuda(), reason="needs an NVIDIA card")
HEADS = [(4, 4, 32, 32), (6, 2, 48, 48), (8, 1, 16, 24)]  # queries, keys, channels of a key, of a value
LENGTHS = [(7, 7), (5, 19), (1, 9)]  # queries, keys


def _given(heads: tuple[int, ...], lengths: tuple[int, int], dtype: mx.Dtype) -> list[mx.array]:
    mx.random.seed(3)
    count, shared, size, out = heads
    queries, keys = lengths
    shapes = [(2, queries, count, size), (2, keys, shared, size), (2, keys, shared, out)]
    return [mx.random.normal(shape).astype(dtype).swapaxes(1, 2) for shape in shapes]


def _masks(heads: tuple[int, ...], lengths: tuple[int, int]) -> dict[str, Any]:
    queries, keys = lengths
    earlier = mx.arange(keys) <= mx.arange(keys - queries, keys)[:, None]
    beyond = mx.arange(keys) >= mx.array([0, 3])[:, None, None, None]  # padding of the second row
    drawn = mx.random.normal((2, heads[0], queries, keys))
    return {
        "none": None,
        "causal": "causal",
        "seen": earlier,
        "rows of their own": earlier & (beyond | (mx.arange(keys) == 0)),
        "added": mx.where(earlier, 0.0, -1e9),
        "heads of their own": drawn,
    }


def _in_float64(given: list[mx.array], scale: float, mask: Any) -> np.ndarray[Any, Any]:
    queries, keys, values = (np.asarray(x.astype(mx.float32), dtype=np.float64) for x in given)
    repeats = queries.shape[1] // keys.shape[1]
    keys, values = keys.repeat(repeats, 1), values.repeat(repeats, 1)
    scores = scale * queries @ keys.swapaxes(-1, -2)
    length, columns = scores.shape[-2:]
    if isinstance(mask, str):
        mask = mx.array(np.tril(np.ones((length, columns), dtype=bool), columns - length))
    if mask is not None:
        told = np.asarray(mask)
        scores = np.where(told, scores, -np.inf) if told.dtype == bool else scores + told
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ values


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16], ids=str)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_it_is_attention(heads: tuple[int, ...], lengths: tuple[int, int], dtype: mx.Dtype) -> None:
    given = _given(heads, lengths, dtype)
    for name, mask in _masks(heads, lengths).items():
        found = by_products(*given, 0.3, mask)
        assert (found.shape, found.dtype) == ((2, heads[0], lengths[0], heads[3]), dtype)
        expected = _in_float64(given, 0.3, mask)
        tolerance = 1e-5 if dtype == mx.float32 else 0.02
        assert np.allclose(np.asarray(found.astype(mx.float32)), expected, tolerance, tolerance), name


def test_a_row_that_sees_nothing_is_no_nonsense() -> None:
    given = _given(HEADS[1], (4, 4), mx.float16)
    found = by_products(*given, 0.2, mx.zeros((2, 1, 4, 4), mx.bool_))
    assert mx.isfinite(found).all()


def test_it_is_taken_where_a_plan_would_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "on_cuda", lambda: True)

    def asked(length: int, columns: int, mask: Any, size: int = 64, dtype: mx.Dtype = mx.bfloat16) -> bool:
        queries = SimpleNamespace(shape=(2, 16, length, size), dtype=dtype)
        return avoids_plan(queries, SimpleNamespace(shape=(2, 4, columns, size)), mask)  # type: ignore[arg-type]

    array = mx.zeros((1,), mx.bool_)
    assert asked(60, 60, "causal")
    assert not asked(64, 64, "causal")  # a whole prompt, of a length that others have too
    assert asked(64, 128, "causal")
    assert asked(4, 900, None)
    assert asked(2, 9, array)
    assert not asked(1, 900, array)  # a step of decoding
    assert not asked(3, 900, "causal")  # has a kernel
    assert not asked(60, 60, "causal", size=256)  # cuDNN does not take them
    assert not asked(60, 60, "causal", dtype=mx.float32)
    widest = CAUSAL // (4 * 2 * 16)
    assert asked(widest // 1024, 1024, "causal")
    assert not asked(widest // 1024 + 1, 1024, "causal")
    assert asked(widest // 1024 + 1, 1024, array)
    assert not asked(MASKED // (4 * 2 * 16) // 1024 + 1, 1024, array)


def test_lengths_become_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "on_cuda", lambda: True)
    found = {length: round_up(length) for length in range(2049)}
    assert found[0] == 0
    assert all(length <= wide <= max(1.25 * length, length + 15) for length, wide in found.items())
    assert len(set(found.values())) == 25
    assert all(round_up(wide) == wide for wide in found.values())
    monkeypatch.setattr(attention, "on_cuda", lambda: False)
    assert round_up(77) == 77


def test_on_a_card_layers_find_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, ...]] = []

    def heard(queries: mx.array, keys: mx.array, values: mx.array, scale: float, mask: Any) -> mx.array:
        told.append(queries.shape)
        return by_products(queries, keys, values, scale, mask)

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 64, "head_dim": 32}
    more = {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 50, "rms_norm_eps": 1e-5}
    rest = {"rope_theta": 1e4, "max_position_embeddings": 64, "tie_word_embeddings": True}
    model = qwen3.Model(qwen3.ModelArgs(model_type="qwen3", **sizes, **more, **rest))
    model.set_dtype(mx.float16)
    tokens = mx.array([[3, 1, 4, 1, 5]])
    before = model(tokens)
    monkeypatch.setattr(attention, "by_products", heard)
    # Models that were loaded before have changed it; it is put back afterwards.
    monkeypatch.setattr(qwen3, "scaled_dot_product_attention", base.scaled_dot_product_attention)
    patch_attention(model)
    monkeypatch.setattr(attention, "on_cuda", lambda: False)
    assert mx.allclose(model(tokens), before, 0.01, 0.01)
    assert told == []
    monkeypatch.setattr(attention, "on_cuda", lambda: True)
    assert mx.allclose(model(tokens), before, 0.01, 0.01)
    assert told == [(1, 2, 5, 32)] * 2


@on_a_card
@pytest.mark.parametrize("lengths", [(60, 60), (33, 250)], ids=str)
def test_on_a_card_it_gives_what_the_fused_one_gives(lengths: tuple[int, int]) -> None:
    given = _given((8, 2, 64, 64), lengths, mx.bfloat16)
    for mask in ("causal", _masks((8, 2), lengths)["rows of their own"]):
        fused_one = mx.fast.scaled_dot_product_attention(*given, scale=0.1, mask=mask)
        assert mx.allclose(by_products(*given, 0.1, mask), fused_one, 0.03, 0.03)
