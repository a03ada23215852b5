"""A step over blocks gives what mlx-lm's network gives, for one token a text and for several, alone and in company."""

import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_map
from mlx_lm.models import llama, qwen2, qwen3
from mlx_lm.models.cache import make_prompt_cache

from models.kernels import checked, gpu, nvrtc
from models.language.cache import kv_cache
from models.language.cache.kv_cache import Cache
from models.language.corrections.rope import RopeConfig
from models.language.corrections.sections import use_sections
from models.language.decode import decoder as decoder_module
from models.language.decode import kernels, matmul, reference_ops
from models.language.decode.decoder import Decoder, TrialPool, padded
from models.language.decode.layers import is_supported, text_network
from models.language.decode.matmul import patch_matmul
from models.language.networks import qwen2_5_vl
from models.layers import quantized

on_a_card = pytest.mark.skipif(not gpu.on_cuda(), reason="needs an NVIDIA card")
BLOCKS, WIDTH = 30, 3
VOCAB = 120

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "intermediate_size": 192,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": VOCAB,
    "max_position_embeddings": 4096,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64}


def _qwen3(**more: Any) -> nn.Module:
    given = SIZES | {"head_dim": 64, "rope_theta": 1e5, "tie_word_embeddings": True} | more
    return qwen3.Model(qwen3.ModelArgs(model_type="qwen3", **given))


def _qwen2() -> nn.Module:
    return qwen2.Model(qwen2.ModelArgs(model_type="qwen2", **SIZES | {"hidden_size": 256}))


def _llama(**more: Any) -> nn.Module:
    given = SIZES | {"head_dim": 128, "tie_word_embeddings": False, "num_key_value_heads": 1} | more
    return llama.Model(llama.ModelArgs(model_type="llama", **given))


def _seeing() -> nn.Module:
    """The text network of Qwen2.5-VL."""
    text = {"model_type": "qwen2_5_vl_text", **SIZES, "hidden_size": 256}
    model = qwen2_5_vl.Model(
        qwen2_5_vl.ModelArgs.from_dict({"model_type": "qwen2_5_vl", "text_config": text})
    )
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [16, 8, 8]}
    use_sections(model, qwen2_5_vl.Model.sections, RopeConfig(rope, None, 4096, 64))
    inner: nn.Module = text_network(model)
    assert inner is not model
    return inner


FAMILIES = {
    "qwen3": _qwen3,
    "qwen2, with biases": _qwen2,
    "qwen2.5-vl, with positions over three axes": _seeing,
    "llama, with a head of its own": lambda: _llama(rope_theta=500.0),
    "llama 3.1, with stretched rotations": lambda: _llama(rope_scaling=LLAMA3),
}


def _model(name: str, dtype: mx.Dtype = mx.float32) -> nn.Module:
    mx.random.seed(5)
    model = FAMILIES[name]()
    size = 1.6 / model.args.hidden_size**0.5  # larger ones make so sharp a choice that roundings decide it
    model.update(tree_map(lambda x: mx.random.normal(x.shape) * size + (x.ndim == 1), model.parameters()))
    model.set_dtype(dtype)
    mx.eval(model.parameters())
    return model


def _read(model: nn.Module, prompts: list[list[int]]) -> Cache:
    single = []
    for prompt in prompts:
        cache = make_prompt_cache(model)
        model(mx.array([prompt]), cache=cache)
        single.append(cache)
    found = single[0] if len(single) == 1 else kv_cache.merged(single)
    mx.eval(kv_cache.arrays(found))
    return found


def _prompts(lengths: list[int]) -> list[list[int]]:
    return [[(7 * row + 3 * i) % VOCAB for i in range(length)] for row, length in enumerate(lengths)]


def _tokens(rows: int) -> Iterator[mx.array]:
    tokens = mx.arange(5, 5 + rows).astype(mx.uint32)
    while True:
        yield tokens
        tokens = ((tokens * 11 + 7) % VOCAB).astype(mx.uint32)


def _quantized(name: str, dtype: mx.Dtype = mx.float32, mode: str = "affine", bits: int = 4) -> nn.Module:
    model = _model(name, dtype)
    group = {"affine": 32, "mxfp4": 32, "nvfp4": 16}[mode]
    nn.quantize(model, group_size=group, bits=bits, mode=mode)
    patch_matmul(model)
    mx.eval(model.parameters())
    return model


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


def _feed(decoder: Decoder, pool: TrialPool, prompts: list[list[int]]) -> None:
    """Each prompt at once, as rows with the same blocks."""
    for table, prompt in zip(_tables(len(prompts)), prompts, strict=True):
        ends = np.arange(len(prompt), dtype=np.int32)
        tokens = mx.array(prompt, dtype=mx.uint32)
        # Evaluated: steps that write in place are only ordered by that.
        mx.eval(decoder.logits(tokens, np.repeat(table[None], len(prompt), axis=0), ends, pool))


def _follow(model: nn.Module, lengths: list[int]) -> None:
    prompts = _prompts(lengths)
    theirs, decoder, pool = _read(model, prompts), Decoder(model, reference_ops), _pool(model)
    _feed(decoder, pool, prompts)
    for step, tokens in enumerate(itertools.islice(_tokens(len(lengths)), 5)):
        expected = model(tokens[:, None], cache=theirs)[:, -1]
        ends = np.array(lengths, np.int32) + step
        logits = decoder.logits(tokens, _tables(len(lengths)), ends, pool)
        assert mx.abs(logits - expected).max() < 1e-5 * mx.abs(expected).max()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("lengths", [[9], [4, 40, 1, 6]], ids=["one", "four"])
def test_it_gives_what_the_network_gives(name: str, lengths: list[int]) -> None:
    _follow(_model(name), lengths)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("mode", "bits"), [("affine", 4), ("affine", 8), ("mxfp4", 4), ("nvfp4", 4)])
def test_of_a_quantized_network_too(name: str, mode: str, bits: int) -> None:
    _follow(_quantized(name, mode=mode, bits=bits), [4, 11, 1, 6])


@pytest.mark.parametrize("rows", [1, 9])
def test_of_a_quantized_network_as_cards_multiply(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (quantized, matmul):
        monkeypatch.setattr(module, "on_cuda", lambda: True)
    monkeypatch.setattr(nvrtc, "architecture", lambda: "sm_75")
    _follow(_quantized("qwen3"), list(range(3, 3 + rows)))


def test_several_tokens_of_a_text_see_those_before_them() -> None:
    model, prompt = _model("qwen3"), _prompts([30])[0]
    decoder, pool = Decoder(model, reference_ops), _pool(model)
    expected = model(mx.array([prompt]))[0]
    tables = np.repeat(_tables(1), 10, axis=0)
    for first in range(0, 30, 10):
        tokens = mx.array(prompt[first : first + 10], dtype=mx.uint32)
        logits = decoder.logits(tokens, tables, np.arange(first, first + 10, dtype=np.int32), pool)
        assert mx.allclose(logits, expected[first : first + 10], 1e-4, 1e-4)


def test_padding_writes_to_block_0_alone() -> None:
    model = _model("qwen3")
    decoder, pool = Decoder(model, reference_ops), _pool(model)
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
    theirs, decoder, pool = _read(model, prompts), Decoder(model, reference_ops), _pool(model, bits)
    _feed(decoder, pool, prompts)
    tokens = next(_tokens(2))
    expected = model(tokens[:, None], cache=theirs)[:, -1]
    logits = decoder.logits(tokens, _tables(2), np.array([9, 33], np.int32), pool)
    assert 0 < mx.abs(logits - expected).max() < allowed * mx.abs(expected).max()


def test_rows_and_tables_are_padded_to_few_sizes() -> None:
    places = padded(np.ones((5, 9), np.int32), np.arange(5, dtype=np.int32))
    assert places.tables.shape == (8, 32)
    assert places.ends.tolist() == [0, 1, 2, 3, 4, -1, -1, -1]
    assert padded(np.ones((1, 1), np.int32), np.zeros(1, np.int32)).tables.shape == (1, 32)
    assert padded(np.ones((1, 129), np.int32), np.zeros(1, np.int32)).tables.shape == (1, 512)


@pytest.fixture
def as_on_a_card(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The reports of kernels that do not work."""
    reports: list[str] = []
    monkeypatch.setattr(checked, "reports", reports)
    monkeypatch.setattr(decoder_module, "on_cuda", lambda: True)
    monkeypatch.setattr(decoder_module, "ours_compile", lambda: True)
    return reports


def test_a_step_that_fails_or_differs_leaves_decoding_to_mlx_lm(
    as_on_a_card: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model("qwen3", mx.bfloat16)
    pool = _pool(model)

    def refused(*_: Any) -> mx.array:
        raise RuntimeError("no kernel image")

    def too_much(*given: Any) -> mx.array:
        return 3 * reference_ops.attention(*given)

    for attention, reason in (
        (refused, "no kernel image"),
        (too_much, "the logits of our kernels differ by"),
    ):
        wrong = SimpleNamespace(**vars(reference_ops) | {"attention": attention})
        monkeypatch.setattr(Decoder.__init__, "__defaults__", (wrong,))
        assert Decoder.of(model, pool) is None
        assert as_on_a_card.pop().startswith(f"decoding by mlx-lm: {reason}")
    monkeypatch.setattr(Decoder.__init__, "__defaults__", (reference_ops,))
    assert Decoder.of(model, pool) is not None
    assert not as_on_a_card


def test_other_pools_and_models_get_no_decoder(as_on_a_card: list[str]) -> None:
    model = _model("qwen3", mx.bfloat16)
    assert Decoder.of(model, _pool(model, 2)) is None
    assert Decoder.of(_model("qwen3"), _pool(model)) is None  # float32
    assert not as_on_a_card


@on_a_card
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("bits", [0, 8])
def test_the_kernels_give_what_plain_operations_give(name: str, bits: int) -> None:
    model, lengths = _model(name, mx.float16), [300, 1, 40]
    prompts = [prompt[:90] for prompt in _prompts(lengths)]
    decoders = [Decoder(model, ops) for ops in (kernels, reference_ops)]
    pools = [_pool(model, bits) for _ in decoders]
    results = []
    for decoder, pool in zip(decoders, pools, strict=True):
        _feed(decoder, pool, prompts)
        ends = np.array([len(prompt) for prompt in prompts], np.int32)
        results.append(decoder.logits(next(_tokens(3)), _tables(3), ends, pool))
        mx.eval(results)
    ours, plain = results
    assert mx.abs(ours - plain).max() < 0.05 * mx.abs(plain).max()
    assert Decoder(model).works(pools[0])


@pytest.mark.parametrize("made", [_model, _quantized])
def test_prompts_are_read_as_before_with_weights_that_are_views(made: Callable[[str], Any]) -> None:
    model = made("llama, with a head of its own")
    tokens = mx.array([[3, 1, 4, 1, 5]])
    before = model(tokens)
    mx.eval(before)
    Decoder(model, reference_ops)
    assert mx.array_equal(model(tokens), before)


def test_only_supported_networks_get_a_decoder() -> None:
    half = _model("qwen3", mx.bfloat16)
    assert is_supported(half)
    assert not is_supported(_model("qwen3"))  # float32
    assert not is_supported(nn.Linear(3, 3))
    mixed = _model("qwen3", mx.bfloat16)
    mixed.model.norm.weight = mixed.model.norm.weight.astype(mx.float32)
    assert not is_supported(mixed)
    odd = _qwen3(head_dim=40)
    odd.set_dtype(mx.bfloat16)
    assert not is_supported(odd)
    stretched = _llama(rope_scaling={"rope_type": "dynamic", "factor": 2.0})
    stretched.set_dtype(mx.bfloat16)
    assert not is_supported(stretched)
    partly = _model("qwen3", mx.bfloat16)
    nn.quantize(partly, group_size=32, bits=8, class_predicate=lambda path, _: "down_proj" in path)
    assert is_supported(partly)
    uneven = _model("qwen3", mx.bfloat16)
    nn.quantize(uneven, group_size=32, bits=8, class_predicate=lambda path, _: "v_proj" in path)
    assert not is_supported(uneven)  # cannot be fused with queries and keys
    assert is_supported(_quantized("llama, with a head of its own", mx.float16, "mxfp4"))
    other = _quantized("qwen3", mx.bfloat16)
    other.model.layers[1].mlp.down_proj.scales = other.model.layers[1].mlp.down_proj.scales.astype(mx.float16)
    assert not is_supported(other)
