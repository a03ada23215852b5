"""A step over blocks gives what mlx-lm's network gives, for one token a text and for several."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models.cache import make_prompt_cache

from models.kernels import checked, gpu
from models.language.decode import kernel_cases, kernels, paged_decoder, reference_ops
from models.language.decode.paged_decoder import PagedDecoder, TrialPool, padded
from models.language.decode.reference_ops import HeadLayout, Places
from tests.models.kernels.emulator import COMPILER, emulated_cuda
from tests.models.language.decode.test_decoder import FAMILIES, _model, _prompts, _read, _tokens

on_a_card = pytest.mark.skipif(not gpu.on_cuda(), reason="needs an NVIDIA card")
BLOCKS, WIDTH = 20, 3


def _pool(model: nn.Module, bits: int = 0) -> TrialPool:
    attention = model.model.layers[0].self_attn
    size, dtype = attention.q_proj.weight.shape[0] // attention.n_heads, model.model.norm.weight.dtype
    shape = (BLOCKS, attention.n_kv_heads, 32)
    parts = [((*shape, size), dtype)]
    if bits:
        scales = ((*shape, size // 64), dtype)
        parts = [((*shape, size * bits // 32), mx.uint32), scales, scales]
    layers = [[[mx.zeros(*part) for part in parts] for _ in model.model.layers] for _ in range(2)]
    return TrialPool(*layers)


def _tables(rows: int) -> Any:
    """Blocks that are not in order."""
    return (1 + 7 * np.arange(rows * WIDTH) % (BLOCKS - 1)).astype(np.int32).reshape(rows, WIDTH)


def _feed(decoder: PagedDecoder, pool: TrialPool, prompts: list[list[int]]) -> None:
    """Each prompt at once, as rows with the same blocks."""
    for table, prompt in zip(_tables(len(prompts)), prompts, strict=True):
        ends = np.arange(len(prompt), dtype=np.int32)
        tokens = mx.array(prompt, dtype=mx.uint32)
        decoder.logits(tokens, np.repeat(table[None], len(prompt), axis=0), ends, pool)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("lengths", [[9], [4, 40, 1, 6]], ids=["one", "four"])
def test_it_gives_what_the_network_gives(name: str, lengths: list[int]) -> None:
    model, prompts = _model(name), _prompts(lengths)
    theirs, decoder, pool = _read(model, prompts), PagedDecoder(model, reference_ops), _pool(model)
    _feed(decoder, pool, prompts)
    for step, tokens in enumerate(itertools.islice(_tokens(len(lengths)), 5)):
        expected = model(tokens[:, None], cache=theirs)[:, -1]
        ends = np.array(lengths, np.int32) + step
        logits = decoder.logits(tokens, _tables(len(lengths)), ends, pool)
        assert mx.abs(logits - expected).max() < 1e-5 * mx.abs(expected).max()


def test_several_tokens_of_a_text_see_those_before_them() -> None:
    model, prompt = _model("qwen3"), _prompts([30])[0]
    decoder, pool = PagedDecoder(model, reference_ops), _pool(model)
    expected = model(mx.array([prompt]))[0]
    tables = np.repeat(_tables(1), 10, axis=0)
    for first in range(0, 30, 10):
        tokens = mx.array(prompt[first : first + 10], dtype=mx.uint32)
        logits = decoder.logits(tokens, tables, np.arange(first, first + 10, dtype=np.int32), pool)
        assert mx.allclose(logits, expected[first : first + 10], 1e-4, 1e-4)


def test_padding_writes_to_block_0_alone() -> None:
    model = _model("qwen3")
    decoder, pool = PagedDecoder(model, reference_ops), _pool(model)
    tokens = mx.array([3, 4, 5], dtype=mx.uint32)  # a step of four rows
    decoder.logits(tokens, _tables(3), np.array([0, 40, 2], np.int32), pool)
    for layer in (*pool.keys, *pool.values):
        places = np.argwhere(np.array(layer[0][1:]).any(axis=(1, 3)))
        assert places.tolist() == sorted(
            [[_tables(3)[0, 0] - 1, 0], [_tables(3)[1, 1] - 1, 8], [_tables(3)[2, 0] - 1, 2]]
        )


@pytest.mark.parametrize(("bits", "allowed"), [(8, 0.05), (4, 0.5)])
def test_of_a_quantized_pool_it_gives_about_the_same(bits: int, allowed: float) -> None:
    model, prompts = _model("qwen3"), _prompts([9, 33])
    theirs, decoder, pool = _read(model, prompts), PagedDecoder(model, reference_ops), _pool(model, bits)
    _feed(decoder, pool, prompts)
    tokens = next(_tokens(2))
    expected = model(tokens[:, None], cache=theirs)[:, -1]
    logits = decoder.logits(tokens, _tables(2), np.array([9, 33], np.int32), pool)
    assert 0 < mx.abs(logits - expected).max() < allowed * mx.abs(expected).max()


def test_rows_and_tables_are_padded_to_few_sizes() -> None:
    places = padded(np.ones((5, 9), np.int32), np.arange(5, dtype=np.int32))
    assert places.tables.shape == (8, 16)
    assert places.ends.tolist() == [0, 1, 2, 3, 4, -1, -1, -1]
    assert padded(np.ones((1, 1), np.int32), np.zeros(1, np.int32)).tables.shape == (1, 8)


@pytest.fixture
def as_on_a_card(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The reports of kernels that do not work."""
    reports: list[str] = []
    monkeypatch.setattr(checked, "reports", reports)
    monkeypatch.setattr(paged_decoder, "on_cuda", lambda: True)
    monkeypatch.setattr(paged_decoder, "ours_compile", lambda: True)
    return reports


def test_a_step_that_fails_or_differs_leaves_decoding_to_mlx_lm(
    as_on_a_card: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model("qwen3", mx.bfloat16)
    pool = _pool(model)

    def refused(*_: Any) -> mx.array:
        raise RuntimeError("no kernel image")

    def too_much(*given: Any) -> mx.array:
        return 3 * reference_ops.paged_attention(*given)

    for attention, reason in (
        (refused, "no kernel image"),
        (too_much, "the logits of our kernels differ by"),
    ):
        wrong = SimpleNamespace(**vars(reference_ops) | {"paged_attention": attention})
        monkeypatch.setattr(PagedDecoder.__init__, "__defaults__", (wrong,))
        assert PagedDecoder.of(model, pool) is None
        assert as_on_a_card.pop().startswith(f"decoding by mlx-lm: {reason}")
    monkeypatch.setattr(PagedDecoder.__init__, "__defaults__", (reference_ops,))
    assert PagedDecoder.of(model, pool) is not None
    assert not as_on_a_card


def test_other_pools_and_models_get_no_decoder(as_on_a_card: list[str]) -> None:
    model = _model("qwen3", mx.bfloat16)
    assert PagedDecoder.of(model, _pool(model, 2)) is None
    assert PagedDecoder.of(_model("qwen3"), _pool(model)) is None  # float32
    assert not as_on_a_card


@pytest.mark.skipif(COMPILER is None, reason="needs g++")
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16], ids=str)
def test_the_kernel_of_heads_gives_what_plain_operations_give(
    dtype: mx.Dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "cuda_kernel", emulated_cuda(tmp_path, render=False))
    kernel = next(kernel for kernel in kernel_cases.DECODING if kernel.name == "paged_heads")
    assert kernel.self_test(dtype) < 2e-2


@pytest.mark.skipif(COMPILER is None, reason="needs g++")
def test_the_kernel_of_heads_writes_nothing_for_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "cuda_kernel", emulated_cuda(tmp_path, render=False))
    layout = HeadLayout(64, mx.ones(32), None, None, None, 0.0)
    pools = [[mx.zeros((2, 1, 32, 64), mx.float16)] for _ in range(2)]
    places = Places(mx.zeros((1, 1), mx.int32), mx.array([-1], mx.int32))
    kernels.paged_heads(mx.ones((1, 192), mx.float16), layout, *pools, places)
    assert not any(mx.any(pool[0]).item() for pool in pools)


@on_a_card
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("bits", [0, 8])
def test_the_kernels_give_what_plain_operations_give(name: str, bits: int) -> None:
    model, lengths = _model(name, mx.float16), [300, 1, 40]
    prompts = [prompt[:90] for prompt in _prompts(lengths)]
    decoders = [PagedDecoder(model, ops) for ops in (kernels, reference_ops)]
    pools = [_pool(model, bits) for _ in decoders]
    results = []
    for decoder, pool in zip(decoders, pools, strict=True):
        _feed(decoder, pool, prompts)
        ends = np.array([len(prompt) for prompt in prompts], np.int32)
        results.append(decoder.logits(next(_tokens(3)), _tables(3), ends, pool))
        mx.eval(results)
    ours, plain = results
    assert mx.abs(ours - plain).max() < 0.05 * mx.abs(plain).max()
    assert PagedDecoder(model).works(pools[0])
    assert make_prompt_cache(model)
