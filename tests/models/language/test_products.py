from contextlib import nullcontext
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from models import quantized_layers
from models.files import LocalModel, Shard
from models.language import load as loading
from models.language import products
from models.language.load import LanguageModel, load
from models.language.products import lead_of
from models.quantized_layers import MANY, QuantizedEmbedding, QuantizedLinear
from tests.toys import toy_text


def opened(folder: Path) -> LanguageModel:
    return load(LocalModel("toy", folder, lambda component: (Shard(folder / "model.safetensors"),)))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "on_cuda", lambda: True)
    monkeypatch.setattr(quantized_layers, "on_cuda", lambda: True)


def kinds(model: nn.Module) -> set[Any]:
    return {type(layer) for layer in model.modules() if "scales" in layer}


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("shape", [(1, 3), (5, 1), (1, MANY + 1), (MANY, 1)], ids=str)
def test_on_cuda_a_quantized_model_says_the_same_with_our_layers(shape: tuple[int, int]) -> None:
    folder = toy_text("qwen3", bits=4)
    model = opened(folder).model
    assert kinds(model) <= {QuantizedLinear, QuantizedEmbedding}
    tokens = mx.arange(shape[0] * shape[1]).reshape(shape) % 50
    found = model(tokens)
    for layer in model.modules():
        layer.__class__ = {
            QuantizedLinear: nn.QuantizedLinear,
            QuantizedEmbedding: nn.QuantizedEmbedding,
        }.get(type(layer), type(layer))
    assert mx.allclose(found, model(tokens), 1e-3, 1e-3)


def test_elsewhere_the_layers_are_mlxs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "on_cuda", lambda: False)
    assert kinds(opened(toy_text("qwen3", bits=4)).model) <= {nn.QuantizedLinear, nn.QuantizedEmbedding}


@pytest.mark.usefixtures("cuda")
def test_experts_stay_as_they_are() -> None:
    found = kinds(opened(toy_text("glm4_moe_lite", bits=4)).model)
    assert QuantizedLinear in found
    assert any(kind.__module__.startswith("mlx_lm") and "Switch" in kind.__name__ for kind in found)


def test_steps_for_which_weights_are_unpacked_are_handed_over_with_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bounded: list[int] = []
    monkeypatch.setattr(products, "bounded_lead", lambda room: bounded.append(room) or nullcontext())
    plain = nn.Sequential(nn.Linear(64, 64))
    quantized = nn.Sequential(nn.Linear(64, 64))
    nn.quantize(quantized, group_size=32, bits=4)
    for on_card in (False, True):
        monkeypatch.setattr(products, "on_cuda", lambda on_card=on_card: on_card)
        for model in (plain, quantized):
            lead = lead_of(model)
            for rows in (1, MANY // 2, MANY):
                with lead(rows):
                    assert len(bounded) == (on_card and model is quantized and rows == MANY)
    assert bounded == [products.ROOM]
