from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest

from models.checkpoint.quantize import Quantization, quantize
from models.checkpoint.weights import WeightMap, WeightsError, evaluate, load_component
from models.files import Shard


class Block(nn.Module):
    def __init__(self, dim: int, bias: bool) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.to_out = nn.Linear(dim, dim, bias=bias)

    def __call__(self, x: mx.array) -> mx.array:
        return self.to_out(self.to_qkv(x)[..., : x.shape[-1]])


class Net(nn.Module):
    def __init__(self, dim: int = 64, bias: bool = True) -> None:
        super().__init__()
        self.blocks = [Block(dim, bias) for _ in range(2)]
        self.conv = nn.Conv2d(3, 5, (1, 2))


MAP = WeightMap(
    strip=("model.",),
    drop=("*position_ids",),
    rename=(("to_out.0", "to_out"),),
    fuse={"to_qkv": ("to_q", "to_k", "to_v")},
)


def checkpoint(dim: int = 64, bias: bool = True) -> dict[str, mx.array]:
    """Random tensors as another library would store them: q, k, v apart, convolutions channels-first."""
    tensors = {"model.conv.weight": mx.random.normal((5, 3, 1, 2)), "model.conv.bias": mx.zeros(5)}
    for block in range(2):
        for layer in ("to_q", "to_k", "to_v", "to_out.0"):
            tensors[f"model.blocks.{block}.{layer}.weight"] = mx.random.normal((dim, dim))
            if bias:
                tensors[f"model.blocks.{block}.{layer}.bias"] = mx.random.normal((dim,))
    tensors["model.position_ids"] = mx.arange(4)
    return tensors


def save(path: Path, tensors: dict[str, mx.array]) -> list[Shard]:
    mx.save_safetensors(str(path.with_suffix(".safetensors")), tensors)
    return [Shard(path.with_suffix(".safetensors"))]


def quantized(tensors: dict[str, mx.array], **how: object) -> dict[str, mx.array]:
    stored = dict(tensors)
    for name, weight in tensors.items():
        if ".to_" in name and name.endswith("weight"):
            stored[name], stored[name.replace("weight", "scales")], *rest = mx.quantize(weight, **how)
            if rest:
                stored[name.replace("weight", "biases")] = rest[0]
    return stored


def test_rules_rename_strip_drop_fuse_and_turn_convolutions(tmp_path: Path) -> None:
    stored, net = checkpoint(), Net()
    load_component(net, save(tmp_path / "x", stored), MAP)
    assert mx.array_equal(net.blocks[1].to_out.weight, stored["model.blocks.1.to_out.0.weight"])
    assert mx.array_equal(net.conv.weight, stored["model.conv.weight"].transpose(0, 2, 3, 1))
    for leaf in ("weight", "bias"):
        parts = [stored[f"model.blocks.0.{part}.{leaf}"] for part in ("to_q", "to_k", "to_v")]
        assert mx.array_equal(net.blocks[0].to_qkv[leaf], mx.concatenate(parts))


def test_a_layer_that_is_stored_fused_needs_no_parts(tmp_path: Path) -> None:
    stored, net = checkpoint(bias=False), Net(bias=False)
    for block in range(2):
        parts = [stored.pop(f"model.blocks.{block}.{part}.weight") for part in ("to_q", "to_k", "to_v")]
        stored[f"model.blocks.{block}.to_qkv.weight"] = mx.concatenate(parts)
    load_component(net, save(tmp_path / "x", stored), MAP)
    assert mx.array_equal(net.blocks[1].to_qkv.weight, stored["model.blocks.1.to_qkv.weight"])


def test_shards_and_renamed_keys_make_one_component(tmp_path: Path) -> None:
    stored, net = checkpoint(), Net()
    blob = save(tmp_path / "blob", {"data": stored.pop("model.conv.weight"), "other": mx.zeros(1)})[0].path
    bare = blob.rename(tmp_path / "sha256-00")
    load_component(net, [*save(tmp_path / "x", stored), Shard(bare, {"data": "conv.weight"})], MAP)
    assert net.conv.weight.shape == (5, 1, 2, 3)


def test_a_store_with_more_files_than_may_be_open_loads(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    net = nn.Sequential(*[nn.RMSNorm(4) for _ in range(300)])
    shards = [save(tmp_path / str(i), {f"layers.{i}.weight": mx.full((4,), float(i))})[0] for i in range(300)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
        load_component(net, shards)
        mx.eval(net.parameters())
        assert net.layers[299].weight[0].item() == 299
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("stored_as", [mx.float32, mx.float16, mx.bfloat16])
@pytest.mark.parametrize("expected", [None, mx.float32, mx.float16, mx.bfloat16])
def test_weights_arrive_in_the_type_that_is_asked_for(
    tmp_path: Path, stored_as: mx.Dtype, expected: mx.Dtype
) -> None:
    net = Net()
    load_component(
        net, save(tmp_path / "x", {k: v.astype(stored_as) for k, v in checkpoint().items()}), MAP, expected
    )
    assert net.blocks[0].to_qkv.weight.dtype == (expected or stored_as)


@pytest.mark.parametrize(
    "how",
    [{"bits": bits, "group_size": group} for bits in (3, 4, 5, 6, 8) for group in (32, 64)]
    + [{"mode": mode} for mode in ("mxfp4", "mxfp8", "nvfp4")],
)
def test_a_quantized_checkpoint_loads_and_fuses_as_it_is(tmp_path: Path, how: dict[str, object]) -> None:
    stored = quantized(checkpoint(), **how)
    net = Net()
    load_component(net, save(tmp_path / "x", stored), MAP, mx.float32)
    layer = net.blocks[0].to_qkv
    assert isinstance(layer, nn.QuantizedLinear)
    assert layer.mode == how.get("mode", "affine")
    expected = [
        mx.dequantize(
            *(stored.get(f"model.blocks.0.{part}.{leaf}") for leaf in ("weight", "scales", "biases")), **how
        )
        for part in ("to_q", "to_k", "to_v")
    ]
    rows = mx.concatenate(expected).astype(mx.float32)
    x = mx.random.normal((2, 64))
    assert mx.allclose(layer(x), x @ rows.T + layer.bias, rtol=1e-4, atol=1e-4)


def test_parts_quantized_in_different_ways_become_one_plain_layer(tmp_path: Path) -> None:
    stored = quantized(checkpoint(), bits=4, group_size=64)
    eight = quantized(checkpoint(), bits=8, group_size=32)
    stored |= {name: value for name, value in eight.items() if ".to_v." in name}
    net = Net()
    load_component(net, save(tmp_path / "x", stored), MAP)
    assert isinstance(net.blocks[0].to_qkv, nn.Linear)
    assert isinstance(net.blocks[0].to_out, nn.QuantizedLinear)
    leaves = ("weight", "scales", "biases")
    value = mx.dequantize(*(stored[f"model.blocks.0.to_v.{leaf}"] for leaf in leaves), bits=8, group_size=32)
    assert mx.array_equal(net.blocks[0].to_qkv.weight[128:], value)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_factor_for_a_whole_layer_is_multiplied_in(mixed: bool, tmp_path: Path) -> None:
    stored = quantized(checkpoint(), mode="nvfp4")
    factors = {"to_q": 0.5, "to_k": 2.0, "to_v": 3.0, "to_out.0": 0.25}
    for part, factor in factors.items():
        for block in range(2):
            stored[f"model.blocks.{block}.{part}.global_scale"] = mx.array(factor)
    if mixed:
        stored |= {k: v for k, v in quantized(checkpoint(), mode="mxfp8").items() if "0.to_k." in k}
    net = Net()
    load_component(net, save(tmp_path / "x", stored), MAP, mx.bfloat16)
    rows = []
    for part in ("to_q", "to_k", "to_v"):
        weight, scales = (stored[f"model.blocks.0.{part}.{leaf}"] for leaf in ("weight", "scales"))
        mode = "mxfp8" if mixed and part == "to_k" else "nvfp4"
        rows.append(mx.dequantize(weight, scales, mode=mode) * factors[part])
    x = mx.random.normal((2, 64)).astype(mx.bfloat16)
    actual, layer = net.blocks[0].to_qkv(x), net.blocks[0].to_qkv
    expected = x.astype(mx.float32) @ mx.concatenate(rows).astype(mx.float32).T + layer.bias
    assert actual.dtype == mx.bfloat16
    assert mx.linalg.norm(actual - expected) / mx.linalg.norm(expected) < 0.01


def test_weights_are_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.checkpoint.weights.PIECE", 2**18)
    size = 40
    shards = save(tmp_path / "x", {f"layers.{at}.weight": mx.random.normal((256, 256)) for at in range(size)})
    net = nn.Sequential(*[nn.Linear(256, 256, bias=False) for _ in range(size)])
    load_component(net, shards)
    quantize(net, Quantization.parse(4))
    heard: list[float] = []
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    evaluate(net, heard.append)
    whole, held = shards[0].path.stat().st_size, mx.get_active_memory() - before
    assert held < whole / 5
    assert mx.get_peak_memory() - before < held + whole / 2
    assert heard == sorted(heard)
    assert heard[-1] == 1.0


def test_quantized_embeddings_load(tmp_path: Path) -> None:
    weight, scales, biases = mx.quantize(mx.random.normal((10, 64)), bits=4, group_size=32)
    net = nn.Sequential(nn.Embedding(10, 64))
    names = ("layers.0.weight", "layers.0.scales", "layers.0.biases")
    load_component(net, save(tmp_path / "x", dict(zip(names, (weight, scales, biases), strict=True))))
    assert net(mx.array([3])).shape == (1, 64)


def test_everything_that_does_not_fit_is_listed_by_name(tmp_path: Path) -> None:
    stored = checkpoint()
    del stored["model.conv.bias"], stored["model.blocks.0.to_k.weight"]
    stored["model.extra"] = mx.zeros(1)
    stored["model.blocks.1.to_out.0.weight"] = mx.zeros((64, 7))
    stored["model.blocks.1.to_out.0.bias"] = mx.zeros(64, dtype=mx.int32)
    with pytest.raises(WeightsError) as caught:
        load_component(Net(), save(tmp_path / "x", stored), MAP)
    message = str(caught.value)
    assert message.startswith("Net: the weights do not belong to its config")
    assert "2 missing: blocks.0.to_qkv.weight, conv.bias" in message
    assert "3 unexpected: blocks.0.to_q.weight, blocks.0.to_v.weight, extra" in message
    assert "1 misshaped: blocks.1.to_out.weight (has [64, 7], [64, 64] is needed)" in message
    assert "1 of another type: blocks.1.to_out.bias (mlx.core.int32)" in message


def test_a_long_list_ends_in_a_count(tmp_path: Path) -> None:
    net = nn.Sequential(*[nn.RMSNorm(4) for _ in range(30)])
    with pytest.raises(
        WeightsError, match=r"30 missing: (layers\.\d+\.weight, ){11}layers\.\d+\.weight and 18 more"
    ):
        load_component(net, save(tmp_path / "x", {}))


def test_a_tensor_stored_twice_is_an_error(tmp_path: Path) -> None:
    shards = save(tmp_path / "x", checkpoint()) + save(tmp_path / "y", {"model.conv.bias": mx.zeros(5)})
    with pytest.raises(WeightsError, match=r"model\.conv\.bias is stored twice, .*y\.safetensors"):
        load_component(Net(), shards, MAP)
    shards = save(tmp_path / "x", checkpoint()) + save(tmp_path / "y", {"conv.bias": mx.zeros(5)})
    with pytest.raises(WeightsError, match=r"two tensors of the checkpoint would become conv\.bias"):
        load_component(Net(), shards, MAP)


def test_a_truncated_file_is_refused_before_anything_is_mapped(tmp_path: Path) -> None:
    shards = save(tmp_path / "x", checkpoint())
    shards[0].path.write_bytes(shards[0].path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"x\.safetensors is cut short"):
        load_component(Net(), shards, MAP)


def test_a_type_that_mlx_cannot_hold_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "f64.safetensors"
    header = b'{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(WeightsError, match=r"f64\.safetensors cannot be read: .*F64"):
        load_component(Net(), [Shard(path)], MAP)


def test_no_files_at_all_is_an_error() -> None:
    with pytest.raises(WeightsError, match="Net: the model has no weights for it"):
        load_component(Net(), [])


def test_a_fragment_is_renamed_only_as_a_whole() -> None:
    rules = WeightMap(rename=(("to_out.0", "to_out"), ("ff.net.2", "ff.down")))
    assert rules.name("x.to_out.0.bias") == "x.to_out.bias"
    assert rules.name("x.into_out.0.bias") == "x.into_out.0.bias"
    assert rules.name("ff.net.2.weight") == "ff.down.weight"
    assert rules.name("ff.net.21.weight") == "ff.net.21.weight"
