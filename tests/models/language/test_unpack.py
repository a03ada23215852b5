"""Quantized checkpoints on a processor: unpacked where there is room, the same numbers, the same tokens."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm import utils as mlx_utils
from mlx_lm.models.switch_layers import QuantizedSwitchLinear

from models.checkpoint.quantize import Quantization
from models.files import LocalModel, Shard
from models.language.load import LanguageModel, load
from models.language.quantize import write_quantized
from models.language.unpack import is_quantized, unpack, unpacked_bytes
from tests.toys import toy_text

PROMPT = [5, 17, 40, 8, 99, 3]
WAYS = ["3", "4", "5", "6", "8", "mxfp4", "mxfp8", "nvfp4"]


def opened(folder: Path, room: int | None = 10**9) -> LanguageModel:
    local = LocalModel("toy", folder, lambda component: (Shard(folder / "model.safetensors"),))
    return load(local, float32=room is not None, room=room)


def quantized(way: str, folder: Path, family: str = "llama") -> Path:
    """A toy, quantized as `diptych quantize` does it."""
    source = toy_text(family)
    shutil.copytree(source, folder)
    local = LocalModel("toy", source, lambda component: (Shard(source / "model.safetensors"),))
    for old in folder.glob("*.safetensors"):
        old.unlink()
    write_quantized(local, Quantization.parse(way), folder)
    return folder


def greedy(model: nn.Module, count: int = 24) -> list[int]:
    tokens = list(PROMPT)
    for _ in range(count):
        tokens.append(int(mx.argmax(model(mx.array([tokens]))[0, -1])))
    return tokens[len(PROMPT) :]


def packed_in_float32(folder: Path) -> nn.Module:
    """The same checkpoint, still packed, with everything else in float32: what unpacking must not change."""
    model = opened(folder, room=None).model
    model.set_dtype(mx.float32)
    return model


@pytest.mark.parametrize("way", WAYS)
def test_unpacked_weights_write_the_tokens_that_packed_ones_do(way: str, tmp_path: Path) -> None:
    folder = quantized(way, tmp_path / "toy")
    loaded = opened(folder)
    assert not is_quantized(loaded.model)
    assert all(value.dtype == mx.float32 for _, value in tree_flatten(loaded.model.parameters()))
    packed = packed_in_float32(folder)
    assert is_quantized(packed)
    assert greedy(loaded.model) == greedy(packed)
    expected, actual = (np.array(model(mx.array([PROMPT]))) for model in (packed, loaded.model))
    assert np.abs(actual - expected).max() < 1e-4 * np.abs(expected).max()


def test_experts_and_latent_attention_are_unpacked_too(tmp_path: Path) -> None:
    folder = quantized("4", tmp_path / "toy", "glm4_moe_lite")
    packed = packed_in_float32(folder)
    assert any(isinstance(layer, QuantizedSwitchLinear) for layer in packed.modules())
    loaded = opened(folder)
    assert not is_quantized(loaded.model)
    assert greedy(loaded.model) == greedy(packed)


def test_values_are_those_that_mlx_dequantizes(tmp_path: Path) -> None:
    folder = quantized("4", tmp_path / "toy")
    stored = mx.load(str(folder / "model.safetensors"))
    assert isinstance(stored, dict)
    name = "model.layers.1.mlp.up_proj"
    expected = mx.dequantize(
        *(stored[f"{name}.{leaf}"] for leaf in ("weight", "scales", "biases")), group_size=64, bits=4
    )
    actual = opened(folder).model.layers[1].mlp.up_proj.weight
    assert actual.dtype == mx.float32
    assert mx.array_equal(actual, expected.astype(mx.float32))


def test_layers_that_are_quantized_each_their_own_way_are_unpacked_each_its_own_way(tmp_path: Path) -> None:
    source = toy_text("llama")
    model, config = opened(source).model, json.loads((source / "config.json").read_text())

    def mixed(path: str, layer: nn.Module) -> bool | dict[str, int]:
        return {"bits": 8, "group_size": 32} if "up_proj" in path else "o_proj" not in path

    model, config = mlx_utils.quantize_model(model, config, 64, 4, quant_predicate=mixed)
    folder = tmp_path / "toy"
    shutil.copytree(source, folder)
    mlx_utils.save_model(folder, model)
    mlx_utils.save_config(config, folder / "config.json")
    packed, loaded = packed_in_float32(folder), opened(folder)
    assert {layer.bits for layer in packed.modules() if isinstance(layer, nn.QuantizedLinear)} == {4, 8}
    assert not is_quantized(loaded.model)
    assert greedy(loaded.model) == greedy(packed)


def test_what_does_not_fit_stays_packed_and_says_so(tmp_path: Path) -> None:
    folder = quantized("4", tmp_path / "toy")
    needed = unpacked_bytes(opened(folder, room=0).model)
    packed = opened(folder, room=needed - 1)
    assert is_quantized(packed.model)
    assert any("stay packed" in warning for warning in packed.warnings)
    fitting = opened(folder, room=needed)
    assert not is_quantized(fitting.model)
    assert fitting.warnings == []
    assert any("computed in float32" in note for note in fitting.notes)


def test_the_bytes_that_are_foretold_are_those_that_unpacking_takes(tmp_path: Path) -> None:
    for way in ("3", "8", "nvfp4"):
        model = opened(quantized(way, tmp_path / way, "glm4_moe_lite"), room=None).model
        foretold = unpacked_bytes(model)
        assert unpack(model)
        model.set_dtype(mx.float32)
        assert sum(value.nbytes for _, value in tree_flatten(model.parameters())) == foretold
