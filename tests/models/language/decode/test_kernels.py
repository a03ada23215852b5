"""The kernels of a decoding step, alone: heads on the processor, products on a card."""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest

from models.kernels import gpu
from models.language.decode import kernel_cases, kernels, reference_ops
from models.language.decode.reference_ops import HeadLayout, Places
from tests.models.kernels.emulator import COMPILER, emulated_cuda

on_a_card = pytest.mark.skipif(not gpu.on_cuda(), reason="needs an NVIDIA card")


@pytest.mark.skipif(COMPILER is None, reason="needs g++")
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16], ids=str)
def test_the_kernel_of_heads_gives_what_plain_operations_give(
    dtype: mx.Dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "cuda_kernel", emulated_cuda(tmp_path, render=False))
    kernel = next(kernel for kernel in kernel_cases.DECODING if kernel.name == "heads")
    assert kernel.self_test(dtype) < 2e-2


@pytest.mark.skipif(COMPILER is None, reason="needs g++")
def test_the_kernel_of_heads_writes_nothing_for_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "cuda_kernel", emulated_cuda(tmp_path, render=False))
    layout = HeadLayout(64, mx.ones(32), None, None, None, 0.0)
    pools = [[mx.zeros((2, 1, 32, 64), mx.float16)] for _ in range(2)]
    places = Places(mx.zeros((1, 1), mx.int32), mx.array([-1], mx.int32))
    kernels.heads(mx.ones((1, 192), mx.float16), layout, *pools, places)
    assert not any(mx.any(pool[0]).item() for pool in pools)


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
