"""What every diffusion transformer promises: the reference's numbers, its names, and a stream in one type."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from models.checkpoint.weights import WeightsError, load_component
from models.files import Shard
from models.transformers.blocks import clamp_float16, modulated_norm, sinusoid
from tests.models.transformers.families import FLUX, TIMES
from tests.models.transformers.shapes import REAL, collapsed, hollow_checkpoint, stored_shapes
from tests.models.transformers.toys import TOYS, load, relative_error, run, stored_output, stored_toy

TOLERANCE = 1e-4


@pytest.mark.parametrize("name", TOYS)
def test_a_step_equals_the_reference(name: str, tmp_path: Path) -> None:
    actual = run(TOYS[name], stored_toy(name, tmp_path))
    assert relative_error(actual, stored_output(name)) < TOLERANCE


@pytest.mark.parametrize("name", TOYS)
def test_a_compiled_step_equals_the_reference(name: str, tmp_path: Path) -> None:
    actual = run(TOYS[name], stored_toy(name, tmp_path), compiled=True)
    assert relative_error(actual, stored_output(name)) < TOLERANCE


@pytest.mark.reference
@pytest.mark.parametrize("name", TOYS)
def test_a_checkpoint_that_the_reference_saved_gives_its_output_at_every_step(
    name: str, tmp_path: Path
) -> None:
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    toy = TOYS[name]
    torch.manual_seed(11)
    model = getattr(diffusers, toy.family.reference)(**toy.config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    # Small shards: the reference splits its layers over several files, as it does at real size.
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    network = load(toy.build(tmp_path / "config.json"), toy.family.module, tmp_path)
    for step, time in enumerate(TIMES):
        with torch.no_grad():
            expected = toy.family.theirs(model, toy.inputs(), time).numpy()
        assert relative_error(run(toy, network, step), expected) < TOLERANCE


@pytest.mark.parametrize("name", TOYS)
def test_bfloat16_stays_near_float32(name: str, tmp_path: Path) -> None:
    actual, expected = run(TOYS[name], stored_toy(name, tmp_path, mx.bfloat16)), stored_output(name)
    assert np.isfinite(actual).all()
    assert np.linalg.norm(actual - expected) / np.linalg.norm(expected) < 0.03


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set[mx.Dtype]:
    """The types of whatever enters or leaves a product, a norm or attention."""
    types: set[mx.Dtype] = set()

    def watched(function: Callable[..., mx.array]) -> Callable[..., mx.array]:
        def wrapper(*args: Any, **kwargs: Any) -> mx.array:
            out = function(*args, **kwargs)
            arrays = [arg for arg in (*args, *kwargs.values(), out) if isinstance(arg, mx.array)]
            types.update(array.dtype for array in arrays)
            return out

        return wrapper

    monkeypatch.setattr(nn.Linear, "__call__", watched(nn.Linear.__call__))
    for name in ("rms_norm", "layer_norm", "scaled_dot_product_attention"):
        monkeypatch.setattr(mx.fast, name, watched(getattr(mx.fast, name)))
    return types


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_no_float32_leaks_into_a_half_precision_stream(
    name: str, dtype: mx.Dtype, tmp_path: Path, seen: set[mx.Dtype]
) -> None:
    network = stored_toy(name, tmp_path, dtype)
    run(TOYS[name], network)
    assert seen == {dtype}


@pytest.mark.parametrize("model", REAL)
def test_a_checkpoint_of_real_size_finds_its_place_without_being_read(model: str, tmp_path: Path) -> None:
    family, config = REAL[model]
    hollow_checkpoint(tmp_path / "model.safetensors", stored_shapes(model))
    mx.clear_cache()
    mx.reset_peak_memory()
    network = family.network(family.config.from_dict(config))
    load_component(network, [Shard(tmp_path / "model.safetensors")], family.module.WEIGHTS)
    assert sum(value.size for _, value in tree_flatten(network.parameters())) > 3e9
    assert mx.get_peak_memory() < 2**24


@pytest.mark.reference
@pytest.mark.parametrize("model", REAL)
def test_the_stored_shapes_are_the_references(model: str) -> None:
    pytest.importorskip("diffusers")
    from tests.models.references.make_transformers import real

    assert sorted(collapsed(model, stored_shapes(model))) == sorted(collapsed(model, real(model)))


def test_a_config_that_contradicts_the_weights_is_refused_by_name(tmp_path: Path) -> None:
    stored_toy("flux alone", tmp_path)
    deeper = FLUX.network(FLUX.config.from_dict({**TOYS["flux alone"].config, "num_single_layers": 3}))
    with pytest.raises(WeightsError, match=r"missing: .*single_transformer_blocks\.2\."):
        load(deeper, FLUX.module, tmp_path)


def test_one_modulation_for_all_equals_the_same_one_for_each() -> None:
    x = mx.random.normal((2, 3, 8))
    scale, shift = mx.random.normal((1, 8)), mx.random.normal((1, 8))
    together = modulated_norm(x, scale, shift, 1e-6)
    apart = modulated_norm(x, mx.repeat(scale, 2, 0), mx.repeat(shift, 2, 0), 1e-6)
    assert mx.allclose(together, apart, atol=1e-5)


def test_a_sinusoid_has_cosines_first_and_fills_an_odd_width_with_zero() -> None:
    waves = np.array(sinusoid([0.0, 2.0], 5, scale=1.0))
    assert waves[0].tolist() == [1, 1, 0, 0, 0]
    assert waves[1] == pytest.approx([np.cos(2), np.cos(0.02), np.sin(2), np.sin(0.02), 0], abs=1e-6)


def test_only_float16_is_held_within_its_range() -> None:
    overflown = mx.array([1e5, -1e5, 3.0])
    assert clamp_float16(overflown.astype(mx.float16)).tolist() == [65504, -65504, 3]
    assert mx.isfinite(clamp_float16(overflown.astype(mx.bfloat16))).all()
    assert clamp_float16(overflown) is overflown
