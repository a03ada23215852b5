"""What looking at a picture takes is estimated from above, and not by far."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest

from models.vision.qwen2_5_vl import Qwen25VisionConfig, Qwen25VisionTower
from models.vision.qwen3_vl import Qwen3VisionConfig, Qwen3VisionTower
from models.vision.siglip import SiglipConfig, SiglipTower
from models.vision.working_memory import TowerWork

WIDTH, MLP, PATCH, SIDE = 96, 384, 4, 40
SHARED = {"hidden_size": WIDTH, "intermediate_size": MLP, "patch_size": PATCH}
QWEN = {**SHARED, "depth": 2, "num_heads": 2, "out_hidden_size": 64, "temporal_patch_size": 2}
SIGLIP = {**SHARED, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE * PATCH}
GRID = (1, SIDE, SIDE)


def qwen25() -> Callable[[], Any]:
    tower = Qwen25VisionTower(
        Qwen25VisionConfig.from_dict({**QWEN, "window_size": 32, "fullatt_block_indexes": [1]})
    )
    mx.eval(tower.parameters())
    return lambda: tower(mx.zeros((SIDE**2, 3 * 2 * PATCH**2)), GRID)


def qwen3() -> Callable[[], Any]:
    tower = Qwen3VisionTower(Qwen3VisionConfig.from_dict({**QWEN, "deepstack_visual_indexes": [0]}))
    mx.eval(tower.parameters())
    return lambda: tower(mx.zeros((SIDE**2, 3 * 2 * PATCH**2)), GRID).rows


def siglip() -> Callable[[], Any]:
    tower = SiglipTower(SiglipConfig.from_dict(SIGLIP))
    mx.eval(tower.parameters())
    return lambda: tower(mx.zeros((1, 3, SIDE * PATCH, SIDE * PATCH)), mx.arange(SIDE**2))


@pytest.mark.parametrize(("make", "config"), [(qwen25, QWEN), (qwen3, QWEN), (siglip, SIGLIP)])
def test_the_estimate_is_above_what_is_held(
    make: Callable[[], Callable[[], Any]], config: dict[str, Any]
) -> None:
    run = make()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(run())
    held = mx.get_peak_memory() - before
    work = TowerWork.of({"vision_config": config})
    assert work is not None
    estimate = work.bytes((SIDE * PATCH) ** 2, 4)
    assert estimate / 4 < held < estimate


def test_what_a_configuration_leaves_out_is_that_of_the_largest_tower() -> None:
    assert TowerWork.of({"model_type": "llama"}) is None
    full = TowerWork.of({"vision_config": {}})
    assert full is not None
    assert 2**27 < full.bytes(2**20, 2) < 2**30
    assert TowerWork.of({"vision_config": {"hidden_size": "a", "patch_size": 0}}) == full
    square = TowerWork.of({"model_type": "gemma3", "vision_config": {"image_size": 896}})
    assert square is not None
    assert square.pixels == 896**2
