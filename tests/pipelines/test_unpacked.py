"""Quantized layers unpacked for a processor: the picture is that of the quantized weights."""

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from models.checkpoint.quantize import Quantization
from models.checkpoint.unpack import unpack, unpacked_bytes
from models.layers.quantized import ScaledLinear
from pipelines.base import ImageRequest
from pipelines.flux2 import Flux2Klein
from pipelines.settings import Settings
from tests.pipelines import wide
from tests.pipelines.pictures import drawn

REQUEST = ImageRequest("a red circle", 3, width=32, height=64, steps=2)


@pytest.mark.parametrize("way", ["4", "8", "nvfp4"])
@pytest.mark.parametrize("memory", ["resident", "staged"])
def test_a_picture_is_that_of_packed_weights(tmp_path: Path, way: str, memory: str) -> None:
    local = wide.write(tmp_path)

    def draw(unpacked: bool) -> np.ndarray:
        settings = Settings(
            dtype="float32", quantization=Quantization.parse(way), memory=memory, unpacked=unpacked
        )
        pipeline = Flux2Klein.load(local, settings)
        scales = [name for name, _ in tree_flatten(pipeline.transformer().parameters()) if "scales" in name]
        assert bool(scales) is not unpacked
        return drawn(pipeline.generate(REQUEST))[0].astype(int)

    assert np.abs(draw(True) - draw(False)).max() <= 1


@pytest.mark.parametrize("way", ["3", "4", "8", "mxfp4", "mxfp8", "nvfp4"])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_gives_what_its_packed_weight_does(way: str, scaled: bool, bias: bool) -> None:
    network = nn.Sequential(nn.Linear(128, 64, bias=bias), nn.RMSNorm(64))
    packed = Quantization.parse(way).apply(network.layers[0], scaled)
    if isinstance(packed, ScaledLinear):
        packed.global_scale = mx.random.uniform(0.5, 2, (64,))
    network.layers[0] = packed
    x = mx.random.normal((5, 128))
    expected, foretold = network(x), unpacked_bytes(network)
    assert len(unpack(network)) == 1
    assert type(network.layers[0]) is nn.Linear
    assert foretold == sum(value.nbytes for _, value in tree_flatten(network.parameters()))
    assert mx.allclose(network(x), expected, 1e-4, 1e-4)
