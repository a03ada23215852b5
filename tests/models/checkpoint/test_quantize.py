import mlx.core as mx
import mlx.nn as nn
import pytest

from models.checkpoint.quantize import Quantization, QuantizationError, quantizable, quantize

WAYS = ["3", "4", "5", "6", "8", "mxfp4", "mxfp8", "nvfp4"]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x_embedder = nn.Linear(64, 64)
        self.blocks = [{"to_q": nn.Linear(64, 64), "norm": nn.RMSNorm(64), "odd": nn.Linear(50, 64)}]
        self.proj_out = nn.Linear(64, 64)


@pytest.mark.parametrize("way", WAYS)
def test_only_the_layers_inside_the_blocks_become_smaller(way: str) -> None:
    net = Net()
    before = net.blocks[0]["to_q"]
    assert quantize(net, Quantization.parse(way)) == ["blocks.0.to_q"]
    after = net.blocks[0]["to_q"]
    assert isinstance(after, nn.QuantizedLinear)
    assert after.weight.nbytes < before.weight.nbytes / 3
    x = mx.random.normal((4, 64))
    error = mx.linalg.norm(after(x) - before(x)) / mx.linalg.norm(before(x))
    assert error.item() < (0.3 if way in ("3", "mxfp4", "nvfp4") else 0.15)
    assert isinstance(net.x_embedder, nn.Linear)
    assert isinstance(net.proj_out, nn.Linear)


@pytest.mark.parametrize("way", WAYS)
def test_the_way_is_read_back_from_the_shapes(way: str) -> None:
    quantization = Quantization.parse(way)
    layer = quantization.apply(nn.Linear(128, 32))
    assert Quantization.of(layer.weight, layer.scales, layer.get("biases"), 128) == quantization


@pytest.mark.parametrize("way", ["2", "7", "int4", "", "mxfp6"])
def test_an_unknown_way_is_an_error_that_lists_the_known_ones(way: str) -> None:
    with pytest.raises(QuantizationError, match="one of 3, 4, 5, 6, 8, mxfp4, mxfp8, nvfp4 is needed"):
        Quantization.parse(way)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("single_transformer_blocks.3.proj_out", True),
        ("proj_out", False),
        ("norm_out.linear", False),
        ("all_final_layer.2-1.linear", False),
        ("transformer_blocks.0.norm1.linear", True),
        ("double_stream_modulation_img.linear", False),
        ("layers.0.adaLN_modulation.0", False),
        ("time_text_embed.timestep_embedder.linear_1", False),
        ("layers.0.mlp.down_proj", True),
    ],
)
def test_the_rule_follows_the_name(path: str, expected: bool) -> None:
    assert quantizable(path, nn.Linear(64, 64), 64) is expected
