"""Layers of FLUX.3 and Krea 2, which are fused of parts of unlike sizes, under every name that adapters have for them."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from models.adapters.names import LayerNames, Target
from models.adapters.spellings import FLUX3, KREA2, Spellings
from tests.models.transformers.toys import REFERENCES, TOYS, draw, stored_toy

CASES = {"flux3 alone": FLUX3, "krea2 with a short text": KREA2}


def names(toy: str, spellings: Spellings) -> tuple[LayerNames, list[str]]:
    shapes = json.loads((REFERENCES / "transformer_toys.json").read_text())[toy]
    layers = [name.removesuffix(".weight") for name, shape in shapes.items() if len(shape) == 2]
    family = TOYS[toy].family
    found = LayerNames(TOYS[toy].build(), family.module.WEIGHTS, spellings)
    return found, [layer for layer in layers if "table" not in layer]


@pytest.mark.parametrize("toy", CASES)
def test_a_layer_of_the_checkpoint_is_found_in_the_rows_that_it_was_loaded_to(
    toy: str, tmp_path: Path
) -> None:
    weights: dict[str, Any] = dict(tree_flatten(stored_toy(toy, tmp_path).parameters()))
    found, layers = names(toy, CASES[toy])
    for layer in layers:
        target = found.find(layer)
        assert target is not None, layer
        rows = mx.array(weights[f"{target.path}.weight"])[target.start : target.stop]
        assert np.array_equal(np.array(rows), draw(f"{layer}.weight", tuple(rows.shape))), layer
        assert found.find(layer.replace(".", "_")) == target


@pytest.mark.reference
@pytest.mark.parametrize("toy", CASES)
def test_a_foreign_name_means_the_layer_that_the_reference_converts_it_to(toy: str) -> None:
    pytest.importorskip("diffusers")
    from diffusers.loaders import lora_conversion_utils as conversion

    convert = {
        "flux3 alone": conversion._convert_non_diffusers_flux3_lora_to_diffusers,
        "krea2 with a short text": conversion._convert_non_diffusers_krea2_lora_to_diffusers,
    }[toy]
    found, layers = names(toy, CASES[toy])
    met = set()
    for name in CASES[toy]:
        foreign = name.format(0)
        (converted,) = convert({f"diffusion_model.{foreign}.lora_A.weight": 0})
        layer = converted.removeprefix("transformer.").removesuffix(".lora_A.weight")
        if layer not in layers:
            continue  # there is no such block in the toy
        met.add(layer)
        ours, theirs = found.find(foreign), found.find(layer)
        assert ours is not None
        assert theirs is not None
        assert place(ours) == place(theirs), foreign
    assert len(met) > 20


def place(target: Target) -> tuple[str, int, int]:
    return target.path, target.start, target.stop
