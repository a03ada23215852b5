from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from models.checkpoint.quantize import Quantization
from models.kernels import gpu
from models.layers import quantized
from models.layers.quantized import INPUTS, MANY, OUTPUTS, QuantizedEmbedding, ScaledLinear

on_a_card = pytest.mark.skipif(not gpu.on_cuda(), reason="needs an NVIDIA card")
# What is compared with there has faults of its own on a card.
elsewhere = pytest.mark.skipif(gpu.on_cuda(), reason="a card has a test of its own")
WAYS = ["3", "4", "5", "6", "8", "mxfp4", "mxfp8", "nvfp4"]
K = INPUTS
SHAPES = [(K,), (1, K), (7, 1, K), (MANY - 1, K), (MANY + 3, K), (3, 45, K)]


@pytest.fixture
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized, "on_cuda", lambda: True)


def linear(
    way: str,
    bias: bool,
    scaled: bool = False,
    dtype: mx.Dtype = mx.float32,
    inputs: int = K,
    outputs: int = OUTPUTS,
) -> Any:
    plain = nn.Linear(inputs, outputs, bias=bias)
    plain.set_dtype(dtype)
    layer = Quantization.parse(way).apply(plain, scaled)
    if scaled:
        layer.global_scale = mx.random.uniform(0.5, 2, (outputs,))
    return layer


def by_mlx(x: mx.array, layer: Any) -> mx.array:
    how = {"group_size": layer.group_size, "bits": layer.bits, "mode": layer.mode}
    y = mx.quantized_matmul(x, layer.weight, layer.scales, layer.get("biases"), **how)
    y = y * layer.get("global_scale", 1.0)
    return y + layer.bias if "bias" in layer else y


def close(actual: mx.array, expected: mx.array, tolerance: float = 1e-4) -> bool:
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    return bool(mx.allclose(actual.astype(mx.float32), expected.astype(mx.float32), tolerance, tolerance))


@elsewhere
@pytest.mark.usefixtures("as_on_cuda")
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("scaled", [True, False], ids=["scaled", "not scaled"])
@pytest.mark.parametrize("way", WAYS)
def test_few_rows_and_many_are_what_mlx_makes_of_them(way: str, scaled: bool, bias: bool) -> None:
    layer = linear(way, bias, scaled)
    assert isinstance(layer, ScaledLinear) is scaled
    for shape in SHAPES:
        x = mx.random.normal(shape)
        assert close(layer(x), by_mlx(x, layer))


@elsewhere
@pytest.mark.usefixtures("as_on_cuda")
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16, mx.float32], ids=str)
@pytest.mark.parametrize("way", ["4", "mxfp4"])
def test_the_type_is_what_mlx_makes_of_activations_and_scales(way: str, dtype: mx.Dtype) -> None:
    layer = linear(way, bias=False, dtype=mx.bfloat16)
    x = mx.random.normal((MANY, K)).astype(dtype)
    assert close(layer(x), by_mlx(x, layer), 1e-4 if dtype == mx.float32 else 0.05)


@elsewhere
@pytest.mark.usefixtures("as_on_cuda")
@pytest.mark.parametrize("rows", [1, MANY + 1])
def test_an_embedding_as_the_last_layer_is_such_a_product_too(rows: int) -> None:
    layer = QuantizedEmbedding.from_embedding(nn.Embedding(50, K), 64, 4)
    x = mx.random.normal((rows, K))
    assert close(layer.as_linear(x), nn.QuantizedEmbedding.as_linear(layer, x))


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes that MLX's quantized product is asked for."""
    calls: list[tuple[int, ...]] = []
    quantized: Callable[..., mx.array] = mx.quantized_matmul

    def heard(x: mx.array, *rest: Any, **how: Any) -> mx.array:
        calls.append(x.shape)
        return quantized(x, *rest, **how)

    monkeypatch.setattr(mx, "quantized_matmul", heard)
    return calls


@elsewhere
@pytest.mark.usefixtures("as_on_cuda")
def test_weights_are_unpacked_for_many_rows_alone(products: list[tuple[int, ...]]) -> None:
    layer = linear("4", bias=True)
    step = mx.compile(layer)
    for shape in ((MANY, K), (3, MANY // 2, K), (MANY, 1, K), (MANY - 1, K)):
        step(mx.zeros(shape))
    assert products == [(MANY - 1, K)]


@elsewhere
@pytest.mark.usefixtures("as_on_cuda")
@pytest.mark.parametrize(("inputs", "outputs"), [(64, OUTPUTS), (K, 40), (K, OUTPUTS + 1)])
def test_several_rows_of_odd_layers_are_unpacked(
    inputs: int, outputs: int, products: list[tuple[int, ...]]
) -> None:
    layer = linear("4", bias=True, inputs=inputs, outputs=outputs)
    x = mx.random.normal((5, inputs))
    actual = mx.concatenate([layer(x), layer(x[2:3])])
    assert products == [(1, inputs)]
    assert close(actual, by_mlx(mx.concatenate([x, x[2:3]]), layer))


@elsewhere
@pytest.mark.usefixtures("as_on_cuda")
def test_a_batch_of_single_tokens_is_one_product_of_so_many_rows(products: list[tuple[int, ...]]) -> None:
    layer = linear("4", bias=True)
    assert layer(mx.zeros((5, 1, K))).shape == (5, 1, OUTPUTS)
    assert layer(mx.zeros((1, 5, K))).shape == (1, 5, OUTPUTS)
    assert layer(mx.zeros((K,))).shape == (OUTPUTS,)
    assert products == [(5, K), (5, K), (1, K)]


def test_elsewhere_mlx_has_its_way(products: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized, "on_cuda", lambda: False)
    linear("4", bias=True)(mx.zeros((2, MANY, K)))
    assert products == [(2, MANY, K)]


@on_a_card
@pytest.mark.parametrize("rows", [1, 2, MANY - 1, MANY, 4608])
@pytest.mark.parametrize("sizes", [(1024, 512), (64, 40)], ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_on_a_card_both_ways_agree_with_plain_weights(way: str, sizes: tuple[int, int], rows: int) -> None:
    layer = Quantization.parse(way).apply(nn.Linear(*sizes))
    layer.set_dtype(mx.bfloat16)
    x = mx.random.normal((rows, 1, sizes[0])).astype(mx.bfloat16)
    how = {"group_size": layer.group_size, "bits": layer.bits, "mode": layer.mode}
    weight = mx.dequantize(layer.weight, layer.scales, layer.get("biases"), **how, dtype=mx.float32)
    expected = (x.astype(mx.float32) @ weight.T + layer.bias).astype(mx.bfloat16)
    assert close(layer(x), expected, 0.05)
