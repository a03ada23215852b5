import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from models.checkpoint.export import write_quantized
from models.checkpoint.quantize import Quantization, quantize
from models.checkpoint.safetensors import read_header
from models.checkpoint.weights import WeightMap, WeightsError, load_component
from models.files import Shard
from models.text_encoders.qwen3 import Qwen3Config, Qwen3Encoder
from tests.models.text_encoders.encoder_cases import qwen3

VALUES = qwen3(hidden_size=64, intermediate_size=128, head_dim=16)


def encoder() -> Qwen3Encoder:
    return Qwen3Encoder(Qwen3Config.from_dict(VALUES), (-2,))


@pytest.fixture
def source(tmp_path: Path) -> list[Shard]:
    """A checkpoint of it, apart where the network is fused, with the head and the last layer that it never reads."""
    width, heads = 64, 16
    shapes = {
        "model.embed_tokens.weight": (97, width),
        "model.norm.weight": (width,),
        "lm_head.weight": (97, width),
    }
    for at in range(4):
        layer = f"model.layers.{at}"
        shapes |= {
            f"{layer}.self_attn.q_proj.weight": (4 * heads, width),
            f"{layer}.self_attn.k_proj.weight": (2 * heads, width),
            f"{layer}.self_attn.v_proj.weight": (2 * heads, width),
            f"{layer}.self_attn.o_proj.weight": (width, 4 * heads),
            f"{layer}.self_attn.q_norm.weight": (heads,),
            f"{layer}.self_attn.k_norm.weight": (heads,),
            f"{layer}.mlp.gate_proj.weight": (128, width),
            f"{layer}.mlp.up_proj.weight": (128, width),
            f"{layer}.mlp.down_proj.weight": (width, 128),
            f"{layer}.input_layernorm.weight": (width,),
            f"{layer}.post_attention_layernorm.weight": (width,),
        }
    path = tmp_path / "source.safetensors"
    mx.save_safetensors(str(path), {name: mx.random.normal(shape) for name, shape in shapes.items()})
    return [Shard(path)]


@pytest.mark.parametrize("way", ["3", "4", "5", "6", "8", "mxfp4", "mxfp8", "nvfp4"])
def test_what_is_written_loads_as_what_is_quantized_after_loading(
    way: str, source: list[Shard], tmp_path: Path
) -> None:
    how = Quantization.parse(way)
    written = write_quantized(encoder(), source, encoder().weight_map, how, tmp_path / "out", "model")
    assert written == [tmp_path / "out" / "model.safetensors"]
    expected, actual = encoder(), encoder()
    load_component(expected, source, expected.weight_map)
    quantize(expected, how)
    load_component(actual, [Shard(written[0])], actual.weight_map)
    weights, got = dict(tree_flatten(expected.parameters())), dict(tree_flatten(actual.parameters()))
    assert weights.keys() == got.keys()
    assert all(mx.array_equal(weights[name], got[name]) for name in weights)


def test_names_stay_the_checkpoints_and_what_is_never_read_is_left_out(
    source: list[Shard], tmp_path: Path
) -> None:
    network = encoder()
    written = write_quantized(
        network, source, network.weight_map, Quantization.parse(4), tmp_path / "out", "model"
    )
    tensors = read_header(written[0]).tensors
    assert tensors["model.layers.0.self_attn.k_proj.scales"].shape == (32, 1)
    assert tensors["model.embed_tokens.weight"].dtype == "F32"
    assert tensors["model.layers.2.mlp.down_proj.weight"].dtype == "U32"
    assert not any("lm_head" in name or "layers.3" in name or name == "model.norm.weight" for name in tensors)


def test_large_components_are_cut_into_files_with_an_index(
    source: list[Shard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.checkpoint.export.LARGEST_FILE", 30_000)
    network = encoder()
    written = write_quantized(
        network, source, network.weight_map, Quantization.parse(8), tmp_path / "out", "model"
    )
    assert len(written) > 2
    assert written[0].name == f"model-00001-of-{len(written):05d}.safetensors"
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())["weight_map"]
    held = {name: path.name for path in written for name in read_header(path).tensors}
    assert held == index
    again = encoder()
    load_component(again, [Shard(path) for path in written], again.weight_map)


def test_no_more_than_a_file_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.checkpoint.export.LARGEST_FILE", 200_000)
    network = nn.Sequential(*[nn.Linear(256, 256, bias=False) for _ in range(40)])
    path = tmp_path / "source.safetensors"
    mx.save_safetensors(str(path), {f"layers.{at}.weight": mx.random.normal((256, 256)) for at in range(40)})
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    write_quantized(network, [Shard(path)], WeightMap(), Quantization.parse(4), tmp_path / "out", "model")
    assert mx.get_peak_memory() - before < path.stat().st_size / 2


def test_writing_again_leaves_quantized_layers_as_they_are(source: list[Shard], tmp_path: Path) -> None:
    network = encoder()
    once = write_quantized(
        network, source, network.weight_map, Quantization.parse(4), tmp_path / "a", "model"
    )
    network = encoder()
    twice = write_quantized(
        network, [Shard(once[0])], network.weight_map, Quantization.parse(8), tmp_path / "b", "model"
    )
    first, second = mx.load(str(once[0])), mx.load(str(twice[0]))
    assert first.keys() == second.keys()
    assert all(mx.array_equal(first[name], second[name]) for name in first)


def test_weights_that_do_not_belong_are_an_error_before_anything_is_written(
    source: list[Shard], tmp_path: Path
) -> None:
    network = Qwen3Encoder(Qwen3Config.from_dict(VALUES | {"num_hidden_layers": 9}))
    with pytest.raises(WeightsError, match=r"missing: layers\.4"):
        write_quantized(network, source, network.weight_map, Quantization.parse(4), tmp_path / "out", "model")
    assert not (tmp_path / "out").exists()
