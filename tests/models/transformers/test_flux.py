from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from models.checkpoint.quantize import Quantization, quantize
from models.config import ConfigError
from tests.models.transformers.families import FLUX
from tests.models.transformers.toys import FLUX_C, TOYS, run, stored_toy


def test_each_picture_of_a_batch_has_its_own_pooled_text(tmp_path: Path) -> None:
    network, toy = stored_toy("flux for two", tmp_path), TOYS["flux for two"]
    inputs, both = toy.inputs(), run(toy, network)
    for index in range(2):
        one = {key: inputs[key][index : index + 1] for key in ("latents", "text", "pooled")}
        prepared, modulation = FLUX.prepare(network, {**inputs, **one})
        alone = network.step(mx.array(one["latents"]), prepared, modulation.at(1))
        assert np.allclose(both[index], np.array(alone[0]), atol=1e-5)


def test_a_network_distilled_with_guidance_asks_for_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="guidance is None; this network takes a number"):
        stored_toy("flux guided", tmp_path).modulation([1.0], mx.zeros((1, 30)))


def test_a_network_without_guidance_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"guidance is 3\.5; this network takes none"):
        stored_toy("flux alone", tmp_path).modulation([1.0], mx.zeros((1, 9)), 3.5)


def test_guidance_changes_the_modulation(tmp_path: Path) -> None:
    network = stored_toy("flux guided", tmp_path)
    strong, weak = (network.modulation([1.0], mx.zeros((1, 30)), guidance).out for guidance in (3.5, 1.0))
    assert not mx.allclose(strong, weak)


def test_quantizing_reaches_the_big_products_and_spares_the_ends(tmp_path: Path) -> None:
    wide = {**FLUX_C, "attention_head_dim": 64, "axes_dims_rope": (16, 24, 24), "num_layers": 1}
    network = FLUX.network(FLUX.config.from_dict(wide))
    names = set(quantize(network, Quantization.parse(8)))
    assert {"attn.to_qkv_mlp", "attn.to_out_mlp"} <= {
        name.removeprefix("single_transformer_blocks.0.") for name in names if name.startswith("single")
    }
    assert {"proj_out", "norm_out.linear", "x_embedder", "context_embedder"}.isdisjoint(names)
