"""One step of decoding in few pieces gives what mlx-lm's network gives, alone and in company."""

import itertools
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_map
from mlx_lm.models import llama, qwen2, qwen3
from mlx_lm.models.cache import make_prompt_cache

from models.kernels import gpu, nvrtc
from models.language.cache import kv_cache
from models.language.cache.kv_cache import Cache
from models.language.decode import decoder as decoder_module
from models.language.decode import kernels, matmul, reference_ops
from models.language.decode.decoder import Decoder, is_supported
from models.language.decode.matmul import patch_matmul
from models.language.decode.slots import GROWTH
from models.layers import quantized

on_a_card = pytest.mark.skipif(not gpu.on_cuda(), reason="needs an NVIDIA card")
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


FAMILIES = {
    "qwen3": _qwen3,
    "qwen2, with biases": _qwen2,
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


def _decoder(model: nn.Module, parts: ModuleType, prompts: list[list[int]]) -> Decoder:
    decoder = Decoder(model, parts)
    decoder.join(_read(model, prompts), len(prompts))
    return decoder


def _tokens(rows: int) -> Iterator[mx.array]:
    tokens = mx.arange(5, 5 + rows).astype(mx.uint32)
    while True:
        yield tokens
        tokens = ((tokens * 11 + 7) % VOCAB).astype(mx.uint32)


def _follow(model: nn.Module, parts: ModuleType, lengths: list[int], steps: int, tolerance: float) -> None:
    theirs, decoder = _read(model, _prompts(lengths)), _decoder(model, parts, _prompts(lengths))
    for tokens in itertools.islice(_tokens(len(lengths)), steps):
        expected = model(tokens[:, None], cache=theirs)[:, -1]
        assert mx.abs(decoder.logits(tokens) - expected).max() < tolerance * mx.abs(expected).max()
    for row in range(len(lengths)):
        one = theirs if len(lengths) == 1 else kv_cache.extracted(theirs, row)
        for layer, twin in zip(one, decoder.extract(row), strict=True):
            assert layer.offset == twin.offset == lengths[row] + steps
            for x, y in zip(layer.keys_and_values(), twin.keys_and_values(), strict=True):
                assert mx.allclose(x, y, tolerance, 10 * tolerance)


def _quantized(name: str, dtype: mx.Dtype = mx.float32, mode: str = "affine", bits: int = 4) -> nn.Module:
    model = _model(name, dtype)
    group = {"affine": 32, "mxfp4": 32, "nvfp4": 16}[mode]
    nn.quantize(model, group_size=group, bits=bits, mode=mode)
    patch_matmul(model)
    mx.eval(model.parameters())
    return model


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("lengths", [[9], [4, 11, 1, 6]], ids=["one", "four"])
def test_it_gives_what_the_network_gives(name: str, lengths: list[int]) -> None:
    _follow(_model(name), reference_ops, lengths, 5, 1e-5)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("mode", "bits"), [("affine", 4), ("affine", 8), ("mxfp4", 4), ("nvfp4", 4)])
def test_of_a_quantized_network_too(name: str, mode: str, bits: int) -> None:
    _follow(_quantized(name, mode=mode, bits=bits), reference_ops, [4, 11, 1, 6], 5, 1e-5)


def test_caches_grow_while_it_writes() -> None:
    _follow(_model("qwen3"), reference_ops, [GROWTH - 3, 20], 6, 1e-5)


def test_rows_come_and_go() -> None:
    model = _model("qwen3")
    alone = {length: _read(model, _prompts([length])) for length in (4, 11, 6, 30, 2)}
    decoder = _decoder(model, reference_ops, _prompts([4]))

    def check(*lengths: int) -> None:
        tokens = next(_tokens(len(lengths)))
        found = decoder.logits(tokens)
        for row, length in enumerate(lengths):
            expected = model(tokens[row : row + 1, None], cache=alone[length])[:, -1]
            assert mx.allclose(found[row], expected[0], 1e-4, 1e-4), length

    check(4)
    for length in (11, 6):
        decoder.join(_read(model, _prompts([length])), 1)
    check(4, 11, 6)
    decoder.keep([0, 2])
    check(4, 6)
    decoder.keep([1])
    check(6)
    padded = kv_cache.merged([_read(model, _prompts([length])) for length in (30, 2)])
    decoder.join(padded, 2)
    check(6, 30, 2)
    decoder.keep([0, 1])
    check(6, 30)
    decoder.clear()
    decoder.join(_read(model, _prompts([11])), 1)


@pytest.mark.parametrize("more", [9, 200])
def test_columns_of_a_long_row_go_with_it(more: int) -> None:
    model = _model("qwen3")
    short, long = _prompts([20, 2 * GROWTH + more])
    padded = kv_cache.merged([_read(model, [short]), _read(model, [long])])
    decoder = Decoder(model, reference_ops)
    decoder.join(padded, 2)
    assert decoder._slots.keys[0].shape[2] == 3 * GROWTH
    decoder.keep([0])
    assert decoder._slots.keys[0].shape[2] == GROWTH
    theirs = _read(model, [short])
    for tokens in itertools.islice(_tokens(1), 3):
        expected = model(tokens[:, None], cache=theirs)[:, -1]
        assert mx.allclose(decoder.logits(tokens), expected, 1e-4, 1e-4)
    assert decoder.extract(0)[0].offset == len(short) + 3


def test_a_row_may_begin_with_nothing_read() -> None:
    model = _model("qwen3")
    decoder = Decoder(model, reference_ops)
    decoder.join(make_prompt_cache(model), 1)
    token = mx.array([9], dtype=mx.uint32)
    assert mx.allclose(decoder.logits(token), model(token[None])[:, -1], 1e-4, 1e-4)


def test_what_is_taken_out_stays_as_it_was() -> None:
    model = _model("qwen3")
    given = _read(model, _prompts([12]))
    decoder = Decoder(model, reference_ops)
    decoder.join(given, 1)
    taken = decoder.extract(0)
    before = [mx.array(layer.keys) for layer in (*given, *taken)]
    mx.eval(before)
    for tokens in itertools.islice(_tokens(1), 3):
        mx.eval(decoder.logits(tokens))
    after = [layer.keys for layer in (*given, *taken)]
    assert all(mx.array_equal(x, y) for x, y in zip(after, before, strict=True))


@pytest.mark.parametrize("rows", [1, 9])
def test_of_a_quantized_network_as_cards_multiply(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (quantized, matmul):
        monkeypatch.setattr(module, "on_cuda", lambda: True)
    monkeypatch.setattr(nvrtc, "architecture", lambda: "sm_75")
    _follow(_quantized("qwen3"), reference_ops, list(range(3, 3 + rows)), 4, 1e-5)


@pytest.mark.parametrize("made", [_model, _quantized])
def test_prompts_are_read_as_before_with_weights_that_are_views(made: Callable[[str], Any]) -> None:
    model = made("llama, with a head of its own")
    tokens = mx.array([[3, 1, 4, 1, 5]])
    before = model(tokens)
    mx.eval(before)
    Decoder(model, reference_ops)
    assert mx.array_equal(model(tokens), before)


def test_a_card_where_no_step_can_be_taken_leaves_decoding_to_mlx_lm(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = _model("qwen3", mx.bfloat16)
    monkeypatch.setattr(decoder_module, "on_cuda", lambda: True)
    monkeypatch.setattr(decoder_module, "ours_compile", lambda: True)
    monkeypatch.setattr(Decoder.__init__, "__defaults__", (reference_ops,))
    made = Decoder.of(model, make_prompt_cache(model))
    assert made is not None
    made.join(_read(model, _prompts([9])), 1)
    assert made.logits(mx.array([5], dtype=mx.uint32)).shape == (1, VOCAB)

    def refused(*_: Any) -> mx.array:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(reference_ops, "attention", refused)
    assert Decoder.of(model, make_prompt_cache(model)) is None
    assert "decoding by mlx-lm: no kernel image" in caplog.text


def test_kernels_that_give_something_else_leave_decoding_to_mlx_lm(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def too_much(*given: Any) -> mx.array:
        return 3 * reference_ops.attention(*given)

    model = _model("qwen3", mx.bfloat16)
    wrong = SimpleNamespace(**vars(reference_ops) | {"attention": too_much})
    monkeypatch.setattr(decoder_module, "on_cuda", lambda: True)
    monkeypatch.setattr(decoder_module, "ours_compile", lambda: True)
    monkeypatch.setattr(Decoder.__init__, "__defaults__", (wrong,))
    assert Decoder.of(model, make_prompt_cache(model)) is None
    assert "decoding by mlx-lm: the logits of our kernels differ by" in caplog.text
    model.model.norm.weight *= float("nan")  # which no kernel is to blame for
    assert Decoder.of(model, make_prompt_cache(model)) is not None


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


@on_a_card
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "lengths",
    [[9], [700], [4, 11, 1, 6], [300, 1, 40], [3] * 7 + [90] * 6],
    ids=lambda lengths: str(len(lengths)),
)
def test_the_kernels_give_what_the_network_gives(name: str, lengths: list[int]) -> None:
    half, whole = _model(name, mx.float16), _model(name, mx.float16)
    whole.set_dtype(mx.float32)
    prompts = _prompts(lengths)
    decoder, theirs, exact = _decoder(half, kernels, prompts), _read(half, prompts), _read(whole, prompts)
    for tokens in itertools.islice(_tokens(len(lengths)), 4):
        truth = whole(tokens[:, None], cache=exact)[:, -1]
        expected = mx.abs(half(tokens[:, None], cache=theirs)[:, -1] - truth).max()
        found = mx.abs(decoder.logits(tokens) - truth).max()
        assert found < 3 * expected + 1e-3 * mx.abs(truth).max()  # the largest errors of so many


@on_a_card
@pytest.mark.parametrize(
    "lengths", [[9], [300, 1, 40], [3] * 7 + [90] * 6], ids=lambda lengths: str(len(lengths))
)
@pytest.mark.parametrize("bits", [4, 8])
def test_the_kernels_do_for_a_quantized_network(bits: int, lengths: list[int]) -> None:
    model = _quantized("qwen2, with biases", mx.float16, bits=bits)
    prompts = _prompts(lengths)
    decoder, theirs = _decoder(model, kernels, prompts), _read(model, prompts)
    for tokens in itertools.islice(_tokens(len(lengths)), 4):
        expected = model(tokens[:, None], cache=theirs)[:, -1]
        assert mx.abs(decoder.logits(tokens) - expected).max() < 0.05 * mx.abs(expected).max()


@on_a_card
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 9])
@pytest.mark.parametrize("gated", [False, True])
def test_the_product_kernel_multiplies(rows: int, gated: bool) -> None:
    x = mx.random.normal((rows, 328)).astype(mx.bfloat16)
    w = (mx.random.normal((130, 328)) * 0.1).astype(mx.bfloat16)
    expected = reference_ops.product(x.astype(mx.float32), w.astype(mx.float32), gated)
    found = kernels.product(x, w, gated).astype(mx.float32)
    assert mx.abs(found - expected).max().item() < 2e-2 * mx.abs(expected).max().item()


@on_a_card
@pytest.mark.parametrize("rows", [1, 2, 5, 8, 9, 24, 32, 33])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16], ids=str)
@pytest.mark.parametrize(("bits", "group"), [(4, 32), (4, 64), (8, 64), (8, 128)])
@pytest.mark.parametrize("outputs", [130, 1024])
def test_the_kernel_multiplies_by_packed_weights(
    rows: int, gated: bool, dtype: mx.Dtype, bits: int, group: int, outputs: int
) -> None:
    layer = nn.QuantizedLinear(1280, outputs, bias=False, group_size=group, bits=bits)
    layer.set_dtype(dtype)
    x = mx.random.normal((rows, 1280)).astype(dtype)
    scales, biases = layer.scales.astype(mx.float32), layer.biases.astype(mx.float32)
    weight = mx.dequantize(layer.weight, scales, biases, group, bits)
    expected = reference_ops.product(x.astype(mx.float32), weight, gated)
    found = kernels.quantized_product(x, layer, gated).astype(mx.float32)
    assert mx.abs(found - expected).max().item() < 2e-2 * mx.abs(expected).max().item()
