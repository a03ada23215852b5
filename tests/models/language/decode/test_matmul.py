from contextlib import nullcontext
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from models.checkpoint.quantize import Quantization
from models.files import LocalModel, Shard
from models.kernels import gpu, nvrtc
from models.language import load as loading
from models.language.decode import matmul, packed_matmul
from models.language.decode.matmul import RowsEmbedding, RowsLinear, compile_matmul, inflight_limit, product
from models.language.load import LanguageModel, load
from models.layers import quantized
from models.layers.quantized import INPUTS, MANY, OUTPUTS
from tests.toys import toy_text

on_a_card = pytest.mark.skipif(not gpu.on_cuda(), reason="needs an NVIDIA card")
# What is compared with there has faults of its own on a card.
elsewhere = pytest.mark.skipif(gpu.on_cuda(), reason="a card has a test of its own")


def opened(folder: Path) -> LanguageModel:
    return load(LocalModel("toy", folder, lambda component: (Shard(folder / "model.safetensors"),)))


@pytest.fixture
def rows_of_kernel(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """As on a card, the kernel's place taken by MLX's product: the rows it is asked for, and whether they are gated."""
    rows: list[tuple[int, bool]] = []

    def product(x: mx.array, layer: Any, gated: bool = False) -> mx.array:
        rows.append((x.shape[0], gated))
        how = {"group_size": layer.group_size, "bits": layer.bits, "mode": layer.mode}
        return mx.quantized_matmul(x, layer.weight, layer.scales, layer.get("biases"), **how)

    for module in (loading, quantized, matmul):
        monkeypatch.setattr(module, "on_cuda", lambda: True)
    monkeypatch.setattr(packed_matmul, "product", product)
    monkeypatch.setattr(
        packed_matmul.QUANTIZED_ROWS, "works", lambda dtype: dtype in packed_matmul.QUANTIZED_ROWS.dtypes
    )
    return rows


def kinds(model: nn.Module) -> set[Any]:
    return {type(layer) for layer in model.modules() if "scales" in layer}


@pytest.mark.usefixtures("rows_of_kernel")
@pytest.mark.parametrize("shape", [(1, 3), (5, 1), (1, MANY + 1), (MANY, 1)], ids=str)
def test_on_cuda_a_quantized_model_says_the_same_with_our_layers(shape: tuple[int, int]) -> None:
    folder = toy_text("qwen3", bits=4)
    model = opened(folder).model
    assert kinds(model) <= {RowsLinear, RowsEmbedding}
    tokens = mx.arange(shape[0] * shape[1]).reshape(shape) % 50
    found = model(tokens)
    for layer in model.modules():
        layer.__class__ = {
            RowsLinear: nn.QuantizedLinear,
            RowsEmbedding: nn.QuantizedEmbedding,
        }.get(type(layer), type(layer))
    assert mx.allclose(found, model(tokens), 1e-3, 1e-3)


def test_elsewhere_the_layers_are_mlxs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "on_cuda", lambda: False)
    assert kinds(opened(toy_text("qwen3", bits=4)).model) <= {nn.QuantizedLinear, nn.QuantizedEmbedding}


@pytest.mark.usefixtures("rows_of_kernel")
def test_experts_stay_as_they_are() -> None:
    found = kinds(opened(toy_text("glm4_moe_lite", bits=4)).model)
    assert RowsLinear in found
    assert any(kind.__module__.startswith("mlx_lm") and "Switch" in kind.__name__ for kind in found)


def layer(way: str, inputs: int, outputs: int, dtype: mx.Dtype = mx.bfloat16) -> Any:
    made = Quantization.parse(way).apply(nn.Linear(inputs, outputs))
    made.set_dtype(dtype)
    made.__class__ = matmul.OURS.get(type(made), RowsLinear)
    return made


def expected(x: mx.array, layer: Any) -> mx.array:
    how = {"group_size": layer.group_size, "bits": layer.bits, "mode": layer.mode}
    weight = mx.dequantize(layer.weight, layer.scales, layer.get("biases"), **how, dtype=mx.float32)
    return x.astype(mx.float32) @ weight.T + layer.bias


def close(found: mx.array, expected: mx.array) -> bool:
    assert found.shape == expected.shape
    return bool(mx.allclose(found.astype(mx.float32), expected, 0.05, 0.05))


@elsewhere
@pytest.mark.parametrize(("way", "dtype"), [("4", mx.bfloat16), ("8", mx.float16)], ids=["4", "8"])
def test_few_rows_of_texts_have_a_kernel(
    way: str, dtype: mx.Dtype, rows_of_kernel: list[tuple[int, bool]]
) -> None:
    made = layer(way, INPUTS, OUTPUTS, dtype)
    for shape in ((1, 1), (2, 1), (MANY, 1), (3, 5), (packed_matmul.MOST, 1), (1, packed_matmul.MOST + 1)):
        x = mx.random.normal((*shape, INPUTS)).astype(dtype)
        assert close(made(x), expected(x, made))
    assert rows_of_kernel == [(rows, False) for rows in (2, MANY, 15, packed_matmul.MOST)]


@elsewhere
@pytest.mark.parametrize(
    ("way", "inputs", "dtype"),
    [("3", INPUTS, mx.bfloat16), ("mxfp4", INPUTS, mx.bfloat16), ("4", INPUTS, mx.float32)],
)
def test_what_the_kernel_does_not_take_is_done_as_in_pictures(
    way: str, inputs: int, dtype: mx.Dtype, rows_of_kernel: list[tuple[int, bool]]
) -> None:
    made = layer(way, inputs, OUTPUTS, dtype)
    for rows in (2, MANY):
        x = mx.random.normal((rows, inputs)).astype(dtype)
        assert close(made(x), expected(x, made))
    assert rows_of_kernel == []


@pytest.mark.parametrize(
    ("card", "can"), [("sm_75", False), ("sm_80", True), ("sm_120a", True), ("?", False)]
)
def test_cards_without_its_instructions_do_without(
    card: str, can: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvrtc, "architecture", lambda: card)
    assert packed_matmul.QUANTIZED_ROWS.runs_here() is can
    if not can:
        assert not packed_matmul.takes(2, layer("4", INPUTS, OUTPUTS), mx.bfloat16)


def test_chunks_of_odd_layers_are_not_whole() -> None:
    narrow = nn.QuantizedLinear(96, 8, group_size=32, bits=4)
    narrow.set_dtype(mx.bfloat16)
    assert not packed_matmul.fits(narrow, mx.bfloat16)
    assert packed_matmul.fits(layer("4", 192, 8), mx.bfloat16)
    assert not packed_matmul.fits(layer("4", 192, 8), mx.float16)  # the kernel takes one type


@elsewhere
def test_its_kernels_are_met_once_for_each_kind_of_layer(rows_of_kernel: list[tuple[int, bool]]) -> None:
    model = nn.Sequential(*(layer(way, INPUTS, OUTPUTS) for way in ("4", "4", "8", "3")))
    assert len(list(compile_matmul(model))) == 2 * 4
    assert sorted(rows_of_kernel) == sorted(
        2 * [(rows, gated) for rows in (8, 16, 24, 32) for gated in (0, 1)]
    )


@pytest.mark.parametrize(("way", "most"), [("4", packed_matmul.MOST), ("6", MANY - 1)])
def test_steps_for_which_weights_are_unpacked_are_handed_over_with_bounds(
    way: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded: list[int] = []
    monkeypatch.setattr(packed_matmul.QUANTIZED_ROWS, "works", lambda dtype: True)
    monkeypatch.setattr(matmul, "limit_inflight_memory", lambda room: bounded.append(room) or nullcontext())
    plain = nn.Sequential(nn.Linear(INPUTS, OUTPUTS))
    quantized = nn.Sequential(layer(way, INPUTS, OUTPUTS))
    for on_card in (False, True):
        monkeypatch.setattr(matmul, "on_cuda", lambda on_card=on_card: on_card)
        for model in (plain, quantized):
            lead = inflight_limit(model)
            for slots in (1, most, most + 1):
                with lead(slots):
                    assert len(bounded) == (on_card and model is quantized and slots > most)
    assert bounded == [matmul.ROOM]


@on_a_card
@pytest.mark.parametrize("rows", [1, 2, MANY - 1, MANY, 17, packed_matmul.MOST, 33, 100])
@pytest.mark.parametrize("sizes", [(1024, 512), (INPUTS, OUTPUTS), (64, 40)], ids=str)
@pytest.mark.parametrize("way", ["3", "4", "6", "8", "mxfp4", "mxfp8", "nvfp4"])
def test_on_a_card_rows_agree_with_plain_weights(way: str, sizes: tuple[int, int], rows: int) -> None:
    made = layer(way, *sizes)
    x = mx.random.normal((rows, 1, sizes[0])).astype(mx.bfloat16)
    assert close(product(x, made, made.bias), expected(x, made))
