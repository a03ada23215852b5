"""Checkpoints as mlx-lm saves them: weights by its own names, quantized or not, beside the older layout of config.json."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from .types import VERIFIED

pytest.importorskip("torch")
pytestmark = pytest.mark.reference

GROUP, BITS = 32, 8
# The older layout has other names here, or cannot say that nothing is scaled where a class scales by default.
ONLY_NEW = ("apertus", "gpt_neox", "gpt_oss")


@pytest.mark.parametrize("model_type", VERIFIED)
def test_what_mlx_lm_has_saved_is_computed_alike(model_type: str, tmp_path: Path) -> None:
    from models.language.build import build

    from .checkpoints import configuration, logits, write_checkpoint
    from .outcome import PROMPT, TOLERANCE, difference, local, whole

    folders = [tmp_path / name for name in ("transformers", "plain", "quantized")]
    for folder in folders:
        folder.mkdir()
    first, plain, quantized = folders
    reference = logits(write_checkpoint(configuration(model_type, tied=False), first), PROMPT).numpy()
    network, _ = build(local(first))
    config = older(json.loads((first / "config.json").read_text(encoding="utf-8")))
    save(network, config, plain)
    assert difference(whole(build(local(plain))[0]), reference) < TOLERANCE
    nn.quantize(network, GROUP, BITS, class_predicate=lambda _, module: fits(module))
    save(network, {**config, "quantization": {"group_size": GROUP, "bits": BITS}}, quantized)
    assert difference(whole(build(local(quantized))[0]), whole(network)) < TOLERANCE


def older(config: dict[str, Any]) -> dict[str, Any]:
    """The layout before transformers 5, where it can say the same."""
    rope = config.get("rope_parameters")
    if config["model_type"] in ONLY_NEW or not isinstance(rope, dict) or "rope_theta" not in rope:
        return config
    flat = {key: rope[key] for key in ("rope_theta", "partial_rotary_factor") if key in rope}
    if rope["rope_type"] != "default":
        flat["rope_scaling"] = rope
    return {key: value for key, value in config.items() if key != "rope_parameters"} | flat


def fits(module: nn.Module) -> bool:
    return hasattr(module, "to_quantized") and module.weight.shape[-1] % GROUP == 0


def save(network: nn.Module, config: dict[str, Any], folder: Path) -> None:
    weights: Any = tree_flatten(network.parameters())
    mx.save_safetensors(str(folder / "model.safetensors"), dict(weights), {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
