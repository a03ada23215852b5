"""Models that see against transformers: stored logits and texts always, the live classes where they are installed."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from models.checkpoint.weights import WeightsError
from models.vision import loader
from tests import ROOT
from tests.models.vision.toy import Toy, write_checkpoint
from tests.models.vision.vision_cases import CASES, picture
from tests.optional import needed

REFERENCES = ROOT / "tests" / "models" / "references"
PROMPTS = [(name, number) for name, case in CASES.items() for number in range(len(case.prompts))]
TOWERS = ("model.visual.", "model.vision_tower.", "model.vision_model.")
TOLERANCE = 1e-4
# Several turns, a picture at the beginning, and one just before the end.
LIVE = (((64, 31), 5, 8), (6, 2, (3, 150), 5, 8, 3, 1, (40, 40), 2, (40, 41), 4), (7, 1))


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(("name", "number"), PROMPTS)
def test_logits_and_text_equal_the_stored_reference(
    name: str, number: int, toys: dict[str, Toy], described: dict[str, Any]
) -> None:
    logits, written = toys[name].run(CASES[name].prompts[number])
    stored = np.load(REFERENCES / "vision.npz")[f"{name}/{number}"]
    assert relative_error(logits[-len(stored) :], stored) < TOLERANCE
    assert written == described[name]["written"][number]


@pytest.mark.reference
@pytest.mark.parametrize("name", CASES)
def test_logits_and_text_equal_the_live_reference_from_its_own_files(name: str, tmp_path: Path) -> None:
    needed("torch", "compares with transformers, which needs the group reference")
    from tests.models.references import make_vision
    from tests.models.vision.processors import image_processor

    case = CASES[name]
    model = make_vision.reference(case)
    model.save_pretrained(tmp_path)
    image_processor(case).save_pretrained(tmp_path)
    toy = Toy.load(tmp_path)
    for prompt in LIVE:
        logits, written = toy.run(prompt)
        expected, text = make_vision.outputs(case, model, prompt)
        assert relative_error(logits, expected) < TOLERANCE
        assert written == text


@pytest.mark.parametrize("name", CASES)
def test_missing_and_wrong_tensors_of_a_tower_are_named(
    name: str, tmp_path: Path, described: dict[str, Any]
) -> None:
    shapes = dict(described[name]["shapes"])
    tower = [
        key
        for key in shapes
        if key.startswith(TOWERS) and ("mlp" in key or "feed_forward" in key) and ".head." not in key
    ]
    missing, wrong = tower[0], tower[-1]
    shapes[wrong] = [2, *shapes[wrong]]
    del shapes[missing]
    folder = write_checkpoint(tmp_path, CASES[name], {**described[name], "shapes": shapes})
    with pytest.raises(WeightsError) as error:
        Toy.load(folder)
    for tensor in (missing, wrong):
        assert tensor.removeprefix(next(each for each in TOWERS if tensor.startswith(each))) in str(
            error.value
        )


@pytest.mark.parametrize(
    ("name", "file", "changes", "message"),
    [
        ("qwen2.5-vl", "config.json", {"vision_config": {"num_heads": 3}}, "num_heads is 3; hidden_size, 40, has to be"),
        ("qwen2.5-vl", "config.json", {"vision_config": {"window_size": 7}}, "window_size is 7; at least 12 is needed"),
        ("qwen2.5-vl", "config.json", {"vision_config": {"patch_size": "6"}}, "patch_size is '6'; a whole number is needed"),
        ("qwen2.5-vl", "config.json", {"vision_config": {"depth": -1}}, "depth is -1; a whole number above 0 is needed"),
        ("qwen2.5-vl", "config.json", {"vision_config": {"hidden_act": "sine"}}, "activation 'sine' is unknown"),
        ("qwen2.5-vl", "config.json", {"image_token_id": "x"}, "image_token_id is 'x'; the id of a token is needed"),
        ("qwen2.5-vl", "config.json", {"text_config": {"rope_parameters": {"mrope_section": [2, 3]}}}, r"mrope_section is \[2, 3\]"),
        ("qwen2.5-vl", "preprocessor_config.json", {"merge_size": 3}, "merge_size is 3, but that of vision_config is 2"),
        ("qwen2.5-vl", "preprocessor_config.json", {"max_pixels": 0}, "longest_edge is 0; a whole number above 0 is needed"),
        ("qwen2.5-vl", "preprocessor_config.json", {"image_std": [1, 0, 1]}, "image_std is .* without 0"),
        ("qwen3-vl", "config.json", {"vision_config": {"num_position_embeddings": 26}}, "num_position_embeddings is 26; the square of"),
        ("qwen3-vl", "config.json", {"vision_config": {"deepstack_visual_indexes": [0, 4]}}, "deepstack_visual_indexes is .* of the 4 blocks"),
        ("qwen3-vl", "config.json", {"vision_config": {"num_heads": 5}}, "num_heads is 5; hidden_size, 24, has to be"),
        ("qwen3-vl", "preprocessor_config.json", {"patch_size": 7}, "patch_size is 7, but that of vision_config is 6"),
        ("idefics3", "config.json", {"scale_factor": 0}, "scale_factor is 0; a whole number above 0"),
        ("idefics3", "config.json", {"text_config": {"model_type": "mamba"}}, "model_type of text_config is 'mamba'; only 'llama'"),
        ("idefics3", "preprocessor_config.json", {"max_image_size": {"longest_edge": 23}}, "longest_edge of max_image_size is 23, 5 patches of 4; a multiple of scale_factor, 3"),
        ("idefics3", "preprocessor_config.json", {"size": {"longest_edge": -2}}, "size: longest_edge is -2; a whole number above 0"),
        ("mistral3", "config.json", {"vision_feature_layer": [-2, -1]}, r"vision_feature_layer is \[-2, -1\]; only -1"),
        ("mistral3", "config.json", {"spatial_merge_size": 0}, "spatial_merge_size is 0; a whole number above 0"),
        ("mistral3", "config.json", {"vision_config": {"num_attention_heads": 5}}, "num_attention_heads is 5; hidden_size, 36, has to be"),
        ("mistral3", "preprocessor_config.json", {"size": {"longest_edge": 0}}, "size: longest_edge is 0; a whole number above 0"),
        ("gemma3", "config.json", {"mm_tokens_per_image": 16}, "mm_tokens_per_image is 16; the square of a divisor of 6"),
        ("gemma3", "config.json", {"vision_config": {"num_attention_heads": 5}}, "num_attention_heads is 5; it has to divide"),
        ("gemma3", "config.json", {"vision_config": {"image_size": 3}}, "image_size is 3; at least patch_size, 4"),
        ("gemma3", "config.json", {"vision_config": None}, "vision_config is None; an object is needed"),
        ("gemma3", "preprocessor_config.json", {"size": {"height": 24, "width": 30}}, "size is .* image_size of vision_config is 24"),
        ("gemma3", "preprocessor_config.json", {"do_pan_and_scan": True}, "do_pan_and_scan is true; only false"),
        ("qwen2.5-vl", "preprocessor_config.json", {"do_resize": False}, "do_resize is false; only true is supported"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_used_is_named(
    name: str, file: str, changes: dict[str, Any], message: str, tmp_path: Path, described: dict[str, Any]
) -> None:
    folder = write_checkpoint(tmp_path, CASES[name], described[name])
    config = json.loads((folder / file).read_text())
    for key, value in changes.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    (folder / file).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        Toy.load(folder)


@pytest.mark.parametrize("name", CASES)
def test_a_prompt_needs_a_place_for_each_picture(name: str, toys: dict[str, Toy]) -> None:
    vision = toys[name].vision
    seen = vision.look(picture((40, 30)))
    with pytest.raises(ValueError, match=r"1 places for pictures .* 2 pictures"):
        vision.expand(f"{vision.marker} here", [seen, seen])


def test_a_picture_too_narrow_for_qwen_is_refused(toys: dict[str, Toy]) -> None:
    with pytest.raises(ValueError, match="2 x 500 pixels is too narrow: one side may be at most 200 times"):
        toys["qwen2.5-vl"].vision.look(picture((2, 500)))


@pytest.mark.parametrize("name", CASES)
def test_pictures_are_told_apart_by_what_is_seen(name: str, toys: dict[str, Toy]) -> None:
    vision = toys[name].vision
    digests = [vision.look(picture(size)).digest for size in ((40, 30), (40, 30), (40, 31), (30, 40))]
    assert digests[0] == digests[1]
    assert len({len(digest) for digest in digests}) == 1
    assert len(set(digests)) == 3


REAL: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen2.5-VL 7B": (
        "Qwen2_5_VLForConditionalGeneration",
        {"vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14, "window_size": 112,
                           "out_hidden_size": 3584, "fullatt_block_indexes": [7, 15, 23, 31]},
         "text_config": {"hidden_size": 3584, "num_hidden_layers": 1}},
    ),
    "Qwen3-VL 4B": (
        "Qwen3VLForConditionalGeneration",
        {"vision_config": {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "out_hidden_size": 2560,
                           "deepstack_visual_indexes": [5, 11, 17]},
         "text_config": {"hidden_size": 2560, "num_hidden_layers": 1}},
    ),
    "Gemma 3 4B": (
        "Gemma3ForConditionalGeneration",
        {"vision_config": {"model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
                           "num_attention_heads": 16, "image_size": 896, "patch_size": 14, "vision_use_head": False},
         "text_config": {"hidden_size": 2560, "num_hidden_layers": 1}},
    ),
    "SmolVLM2 2.2B": (
        "SmolVLMForConditionalGeneration",
        {"vision_config": {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
                           "image_size": 384, "patch_size": 14},
         "text_config": {"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 1, "vocab_size": 49280},
         "scale_factor": 3, "image_token_id": 49190},
    ),
}  # fmt: skip
# Of a picture of 1000 x 700 pixels.
REAL_SETTINGS: dict[str, tuple[dict[str, Any], int]] = {
    "Qwen2.5-VL 7B": ({"min_pixels": 3136, "max_pixels": 12845056}, 25 * 36),
    "Qwen3-VL 4B": ({"patch_size": 16, "size": {"shortest_edge": 65536, "longest_edge": 16777216}}, 22 * 31),
    "Gemma 3 4B": ({"size": {"height": 896, "width": 896}, "do_pan_and_scan": None}, 256),
    "SmolVLM2 2.2B": (
        {"size": {"longest_edge": 1536}, "max_image_size": {"longest_edge": 384}},
        81 * (3 * 4 + 1),
    ),
}


@pytest.mark.reference
@pytest.mark.parametrize("name", REAL)
def test_towers_of_real_dimensions_have_the_reference_names_and_shapes(name: str, tmp_path: Path) -> None:
    torch, transformers = (needed(package, "the group reference") for package in ("torch", "transformers"))
    cls = getattr(transformers, REAL[name][0])
    with torch.device("meta"):
        model = cls(cls.config_class(**REAL[name][1]))
    # Zeros are not made before they are evaluated, and nothing here is.
    stored = {key: mx.zeros(tuple(value.shape), mx.bfloat16) for key, value in model.state_dict().items()}
    settings, rows = REAL_SETTINGS[name]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    config = json.loads(model.config.to_json_string())
    vision = loader(config)(config, tmp_path, stored, mx.bfloat16)
    assert vision.look(picture((1000, 700))).tokens == rows
