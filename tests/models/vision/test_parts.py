"""Parts of models that see, as picture models use them: the text network alone, by its hidden states, and the tower alone."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from models.checkpoint.weights import load_tensors
from models.text_encoders.qwen3 import Qwen3Config, Qwen3Encoder
from models.vision.qwen2_5_vl import Qwen25VisionConfig, load_tower
from tests.models.vision.toy import Toy, write_checkpoint
from tests.models.vision.vision_cases import CASES, picture, weights
from tests.optional import needed


@pytest.mark.reference
def test_hidden_states_of_the_text_network_of_qwen3_vl_equal_the_live_reference(
    described: dict[str, Any],
) -> None:
    torch = needed("torch", "compares with transformers, which needs the group reference")
    from tests.models.references import make_vision

    case, depths, ids = CASES["qwen3-vl"], (1, 3), [[5, 9, 2, 40, 7, 7, 1]]
    encoder = Qwen3Encoder(Qwen3Config.from_dict(described["qwen3-vl"]["config"]["text_config"]), depths)
    tensors = weights(described["qwen3-vl"]["shapes"], case.seed)
    load_tensors(encoder, {name: mx.array(value) for name, value in tensors.items()}, encoder.weight_map)
    with torch.no_grad():
        states = make_vision.reference(case)(torch.tensor(ids), output_hidden_states=True).hidden_states
    expected = torch.cat([states[depth] for depth in depths], dim=-1).numpy()
    actual = np.array(encoder(mx.array(ids)))
    assert np.abs(actual - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("prefix", ["visual.", "model.visual.", ""])
def test_the_tower_of_qwen2_5_vl_loads_alone(
    prefix: str, toys: dict[str, Toy], described: dict[str, Any]
) -> None:
    case, toy = CASES["qwen2.5-vl"], toys["qwen2.5-vl"]
    tensors = {
        prefix + name.removeprefix("model.visual."): mx.array(value)
        for name, value in weights(described["qwen2.5-vl"]["shapes"], case.seed).items()
        if name.startswith("model.visual.")
    }
    config = Qwen25VisionConfig.from_dict(described["qwen2.5-vl"]["config"]["vision_config"])
    tower = load_tower(config, tensors, mx.float32)
    seen = toy.vision.look(picture((50, 40)))
    rows = tower(toy.vision.processor.numbers(seen), seen.grid)  # type: ignore[attr-defined]
    assert mx.array_equal(rows, toy.vision.features(seen).rows)


@pytest.mark.parametrize("name", CASES)
def test_a_tower_in_half_precision_stays_near_and_in_it(
    name: str, tmp_path: Path, toys: dict[str, Toy], described: dict[str, Any]
) -> None:
    folder = write_checkpoint(tmp_path, CASES[name], described[name])
    exact = toys[name].vision
    seen = exact.look(picture((50, 40)))
    half = Toy.load(folder, mx.bfloat16).vision.features(seen)
    expected = exact.features(seen)
    assert len(half.deepstack) == len(expected.deepstack)
    for rows, reference in zip(
        (half.rows, *half.deepstack), (expected.rows, *expected.deepstack), strict=True
    ):
        assert rows.dtype == mx.bfloat16
        assert mx.abs(rows - reference).max().item() < 0.05 * mx.abs(reference).max().item()
