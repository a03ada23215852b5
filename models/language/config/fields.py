"""Fields that mlx-lm's architectures know by another name, or take where transformers has another default."""

from collections.abc import Callable, Mapping
from typing import Any

# model_type -> mlx-lm's field -> transformers' field.
RENAMED: Mapping[str, Mapping[str, str]] = {
    "gpt_neox": {"rotary_emb_base": "rope_theta", "rotary_pct": "partial_rotary_factor"},
}


def _apertus(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"mlp_bias": False, "post_norm": False, "qk_norm": True}


def _deepseek_v2(config: Mapping[str, Any]) -> dict[str, Any]:
    """mlx-lm always scales its rotations; a factor of one leaves them as they are."""
    return {} if config.get("rope_scaling") else {"rope_scaling": {"type": "yarn", "factor": 1.0}}


def _gpt2(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"n_ctx": config.get("n_ctx") or config.get("n_positions")}


def _glm_moe_dsa(config: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {"topk_method": "noaux_tc", "scoring_func": "sigmoid", "moe_layer_freq": 1}
    return {key: config.get(key, value) for key, value in defaults.items()}


# model_type -> fields computed from the whole configuration.
Fields = Callable[[Mapping[str, Any]], dict[str, Any]]
COMPUTED: Mapping[str, Fields] = {
    "apertus": _apertus,
    "deepseek_v2": _deepseek_v2,
    "glm_moe_dsa": _glm_moe_dsa,
    "gpt2": _gpt2,
}
