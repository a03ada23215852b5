"""Qwen2.5-VL as a text encoder against transformers: prompts, padded and alone, and prompts with pictures."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from PIL import Image

from models.checkpoint.weights import WeightsError, load_component
from models.config import ConfigError
from models.files import Shard
from models.text_encoders.qwen2_5_vl import Qwen25VLConfig, Qwen25VLEncoder
from models.vision.qwen2_5_vl import Qwen25VisionConfig
from models.vision.qwen_processor import QwenProcessor
from tests.models.vision.vision_cases import qwen2_5_vl

OTHER = {"num_key_value_heads": 3, "hidden_size": 36, "num_hidden_layers": 2, "rms_norm_eps": 1e-3}
OTHER |= {"rope_parameters": {"rope_type": "default", "rope_theta": 7e5, "mrope_section": [3, 1, 2]}}
CASES = {"one key head": qwen2_5_vl(), "a head each": qwen2_5_vl(OTHER, {"out_hidden_size": 36})}
PROCESSOR = QwenProcessor.from_dict(
    {"patch_size": 6, "size": {"shortest_edge": 12 * 12 * 4, "longest_edge": 12 * 12 * 40}}
)
IMAGE = 77


def encoder(config: dict[str, Any], sees: bool) -> Qwen25VLEncoder:
    vision = Qwen25VisionConfig.from_dict(config["vision_config"]) if sees else None
    return Qwen25VLEncoder(Qwen25VLConfig.from_dict(config), vision)


def loaded(folder: Path, sees: bool) -> Qwen25VLEncoder:
    network = encoder(json.loads((folder / "config.json").read_text()), sees)
    load_component(
        network, [Shard(path) for path in sorted(folder.glob("*.safetensors"))], network.weight_map
    )
    return network


def saved(case: str, folder: Path) -> Any:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(3)
    kind = transformers.Qwen2_5_VLForConditionalGeneration
    model = kind(kind.config_class(**CASES[case])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder, max_shard_size="40KB")
    return model


def states(model: Any, ids: Any, **more: Any) -> np.ndarray:
    import torch

    with torch.no_grad():
        result = model(input_ids=torch.tensor(ids), output_hidden_states=True, **more)
    return result.hidden_states[-1].numpy()


def error(actual: mx.array, expected: np.ndarray) -> float:
    return float(np.abs(np.array(actual) - expected).max() / np.abs(expected).max())


@pytest.mark.reference
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("sees", [False, True])
def test_prompts_have_the_references_states(case: str, sees: bool, tmp_path: Path) -> None:
    import torch

    model, network = saved(case, tmp_path), loaded(tmp_path, sees)
    ids = np.random.default_rng(1).integers(0, 70, (2, 9))
    mask = np.array([[1] * 9, [1] * 5 + [0] * 4])
    expected = states(model, ids, attention_mask=torch.tensor(mask))
    actual = network(mx.array(ids), mx.array(mask))
    assert error(actual[0], expected[0]) < 1e-5
    assert error(actual[1, :5], expected[1, :5]) < 1e-5
    assert error(network(mx.array(ids[1:, :5])), expected[1:, :5]) < 1e-5


@pytest.mark.reference
@pytest.mark.parametrize("case", CASES)
def test_prompts_with_pictures_have_the_references_states(case: str, tmp_path: Path) -> None:
    import torch

    model, network = saved(case, tmp_path), loaded(tmp_path, sees=True)
    random = np.random.default_rng(2)
    sizes = ((40, 61, 3), (70, 30, 3))
    seen = [PROCESSOR.look(Image.fromarray(random.integers(0, 255, size).astype(np.uint8))) for size in sizes]
    ids = [5, 6, 79, *[IMAGE] * seen[0].tokens, 80, 7, 79, *[IMAGE] * seen[1].tokens, 80, 8, 9]
    expected = states(
        model,
        [ids],
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        pixel_values=torch.tensor(np.concatenate([np.array(PROCESSOR.numbers(one)) for one in seen])),
        image_grid_thw=torch.tensor([one.grid for one in seen]),
        mm_token_type_ids=torch.tensor([[int(token == IMAGE) for token in ids]]),
    )
    rows = mx.concatenate([network.see(one, PROCESSOR) for one in seen])
    assert error(network.with_pictures(ids, seen, rows, PROCESSOR.merge_size), expected) < 1e-5
    with pytest.raises(ValueError, match="0 places for the"):
        network.with_pictures([5, 6], seen, rows, PROCESSOR.merge_size)


def test_settings_at_the_top_level_are_read_as_those_of_older_files() -> None:
    text = CASES["one key head"]["text_config"]
    rope = {"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}, "rope_theta": 5e4}
    older = {key: value for key, value in text.items() if key != "rope_parameters"} | rope
    newer = Qwen25VLConfig.from_dict(CASES["one key head"])
    positions = np.array([[0, 1, 2], [30, 4, 5]])
    for one, other in zip(
        Qwen25VLConfig.from_dict(older).rotation(positions), newer.rotation(positions), strict=True
    ):
        assert mx.array_equal(one, other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope type 'yarn'"),
        ({"rope_parameters": {"rope_type": "default"}}, r"mrope_section is \[\]"),
        ({"rope_parameters": {"mrope_section": [2, 3, 4]}}, "does not add up to half of a head, 8"),
        ({"rope_parameters": {"mrope_section": [2, "3", 3]}}, "three whole numbers"),
        ({"use_sliding_window": True}, "use_sliding_window is true"),
    ],
)
def test_a_config_that_cannot_be_run_says_why(text: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Qwen25VLConfig.from_dict(qwen2_5_vl(text))


def test_a_tower_of_another_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="out_hidden_size is 36; hidden_size, 48, is needed"):
        encoder(qwen2_5_vl(vision={"out_hidden_size": 36}), sees=True)


def test_a_missing_tower_is_named(tmp_path: Path) -> None:
    blind = encoder(CASES["one key head"], sees=False)
    mx.save_safetensors(str(tmp_path / "model.safetensors"), dict(tree_flatten(blind.parameters())))
    with pytest.raises(WeightsError, match=r"visual\."):
        load_component(
            encoder(CASES["one key head"], sees=True),
            [Shard(tmp_path / "model.safetensors")],
            blind.weight_map,
        )
