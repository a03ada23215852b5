from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from models.config import ConfigError
from models.transformers.flux2 import Flux2Config
from pipelines.latents import flux2_image_ids, flux2_text_ids
from tests.models.transformers.families import FLUX2
from tests.models.transformers.toys import FLUX2_A, TOYS, run, stored_toy


def test_a_batch_of_two_is_two_pictures_beside_each_other(tmp_path: Path) -> None:
    network, toy = stored_toy("flux2 with two references", tmp_path), TOYS["flux2 with two references"]
    inputs = toy.inputs()
    _, modulation = FLUX2.prepare(network, inputs)
    both = run(toy, network)
    for index in range(2):
        one = {key: inputs[key][index : index + 1] for key in ("latents", "text")}
        prepared, _ = FLUX2.prepare(network, {**inputs, **one})
        alone = network.step(mx.array(one["latents"]), prepared, modulation.at(1))
        assert np.allclose(both[index], np.array(alone[0]), atol=1e-5)


def test_references_take_part_but_are_not_in_the_output(tmp_path: Path) -> None:
    network, toy = stored_toy("flux2 with two references", tmp_path), TOYS["flux2 with two references"]
    inputs = toy.inputs()
    prepared, modulation = FLUX2.prepare(network, {**inputs, "references": 2 * inputs["references"]})
    other = np.array(network.step(mx.array(inputs["latents"]), prepared, modulation.at(1)))
    assert other.shape == inputs["latents"].shape
    assert not np.allclose(other, run(toy, network), atol=1e-3)


def test_modulations_made_together_are_those_made_alone(tmp_path: Path) -> None:
    network = stored_toy("flux2 guided", tmp_path)
    together, alone = network.modulation([1.0, 0.5], 4.0).at(1), network.modulation([0.5], 4.0).at(0)
    assert all(mx.allclose(a, b, atol=1e-6) for a, b in zip(together, alone, strict=True))


def test_guidance_matters_where_it_is_embedded_and_is_ignored_where_it_is_not(tmp_path: Path) -> None:
    embedded = stored_toy("flux2 guided", tmp_path)
    assert not mx.allclose(embedded.modulation([0.5], 4.0).image, embedded.modulation([0.5], 1.0).image)
    plain = stored_toy("flux2 alone", tmp_path)
    assert mx.array_equal(plain.modulation([0.5], 4.0).image, plain.modulation([0.5]).image)


def test_one_compiled_step_serves_all_steps_of_a_shape(tmp_path: Path) -> None:
    network = stored_toy("flux2 alone", tmp_path)
    shapes = set()

    def step(*args: object) -> mx.array:  # traced once for each of these, where steps are compiled
        shapes.add(tuple(getattr(value, "shape", value) for _, value in tree_flatten(args)))
        return network.step(*args)

    for rows in (2, 2, 3):
        text = mx.zeros((1, 4, FLUX2_A["joint_attention_dim"]))
        prepared = network.prepare(text, flux2_text_ids(4), flux2_image_ids(rows, 3))
        modulation = network.modulation([1.0, 0.5, 0.25])
        for index in range(3):
            mx.eval(step(mx.zeros((1, 3 * rows, FLUX2_A["in_channels"])), prepared, modulation.at(index)))
    assert len(shapes) == 2


def test_derived_sizes_come_from_the_config() -> None:
    config = Flux2Config.from_dict({**FLUX2_A, "patch_size": 3, "out_channels": 5})
    assert (config.width, config.mlp_width, config.out_features) == (60, 150, 45)


def test_a_missing_dimension_is_named() -> None:
    without = {key: value for key, value in FLUX2_A.items() if key != "joint_attention_dim"}
    with pytest.raises(ConfigError, match="joint_attention_dim is missing"):
        Flux2Config.from_dict(without)
