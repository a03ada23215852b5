"""Fields for which mlx-lm's architectures have another name or another default than transformers."""

from collections.abc import Callable, Mapping
from typing import Any

from models.language.config.layers import (
    full_attention_interval,
    granite_hybrid,
    kimi_linear,
    mimo_v2_flash,
)

# model_type -> mlx-lm's field -> transformers' field.
RENAMED: Mapping[str, Mapping[str, str]] = {
    "gpt_neox": {"rotary_emb_base": "rope_theta", "rotary_pct": "partial_rotary_factor"},
}

# Types whose networks refuse some rope types, or compute them differently: they are created without rope_scaling, and
# corrections/rope.py replaces their rotary embeddings.
CREATED_WITHOUT_ROPE_SCALING = frozenset(
    ("hunyuan_v1_dense", "internlm3", "mixtral", "nemotron", "phi3", "phimoe", "qwen2_moe", "qwen3_moe")
)

Config = Mapping[str, Any]


def _apertus(config: Config) -> dict[str, Any]:
    return {"mlp_bias": False, "post_norm": False, "qk_norm": True}


def _deepseek_v2(config: Config) -> dict[str, Any]:
    """mlx-lm always scales the rotary embedding; a factor of one does not change it."""
    return {} if config.get("rope_scaling") else {"rope_scaling": {"type": "yarn", "factor": 1.0}}


def _dbrx(config: Config) -> dict[str, Any]:
    """mlx-lm always clips; without clip_qkv, at a limit that is never reached."""
    attention = dict(config.get("attn_config") or {})
    if attention.get("clip_qkv") is None:
        attention["clip_qkv"] = 3e38
    attention.setdefault("rope_theta", config.get("rope_theta") or 10_000.0)
    return {"attn_config": attention}


def _exaone_moe(config: Config) -> dict[str, Any]:
    first, layers = config.get("first_k_dense_replace") or 0, config.get("num_hidden_layers") or 0
    return {"is_moe_layer": config.get("is_moe_layer") or [index >= first for index in range(layers)]}


def _gpt2(config: Config) -> dict[str, Any]:
    return {"n_ctx": config.get("n_ctx") or config.get("n_positions")}


def _vocabulary_of_text(config: Config) -> dict[str, Any]:
    """mlx-lm reads it outside of text_config, and has its own default."""
    nested = config.get("text_config")
    size = nested.get("vocab_size") if isinstance(nested, Mapping) else None
    return {} if size is None else {"vocab_size": size}


def _glm_moe_dsa(config: Config) -> dict[str, Any]:
    defaults = {"topk_method": "noaux_tc", "scoring_func": "sigmoid", "moe_layer_freq": 1}
    return {key: config.get(key, value) for key, value in defaults.items()}


def _nemotron_h(config: Config) -> dict[str, Any]:
    least = config.get("time_step_min")
    return {} if least is None else {"time_step_limit": (least, float("inf"))}


def _olmo3(config: Config) -> dict[str, Any]:
    full = config["rope_parameters"].get("full_attention", config["rope_parameters"])
    return {"rope_theta": full["rope_theta"]}


def _minimax_m2(config: Config) -> dict[str, Any]:
    part = config["rope_parameters"].get("partial_rotary_factor", 1.0)
    return {
        "rotary_dim": config.get("rotary_dim") or int(config["head_dim"] * part),
        "shared_intermediate_size": config.get(
            "shared_intermediate_size", 0
        ),  # required, but not used by any layer
    }


def _solar_open(config: Config) -> dict[str, Any]:
    return {
        "first_k_dense_replace": config.get("first_k_dense_replace", 0),
        "intermediate_size": config.get("intermediate_size", 0),  # of dense layers, which do not exist
        "partial_rotary_factor": config["rope_parameters"].get("partial_rotary_factor", 1.0),
    }


def _llama4_text(config: Config) -> dict[str, Any]:
    """A step of 0 means that no layer has experts; a step larger than the number of layers has the same effect."""
    return {
        "interleave_moe_layer_step": config.get("interleave_moe_layer_step")
        or config["num_hidden_layers"] + 1
    }


def _longcat_flash(config: Config) -> dict[str, Any]:
    defaults = {
        "attention_method": "MLA",
        "zero_expert_type": "identity",
        "mla_scale_q_lora": True,
        "mla_scale_kv_lora": True,
    }
    return {key: config.get(key, value) for key, value in defaults.items()}


# model_type -> fields computed from the whole configuration.
COMPUTED: Mapping[str, Callable[[Config], dict[str, Any]]] = {
    "apertus": _apertus,
    "dbrx": _dbrx,
    "deepseek_v2": _deepseek_v2,
    "exaone_moe": _exaone_moe,
    "gemma3": _vocabulary_of_text,
    "gemma4": _vocabulary_of_text,
    "gemma4_unified": _vocabulary_of_text,
    "gemma4_unified_text": lambda config: {"hidden_size_per_layer_input": 0},  # only its siblings have it
    "glm_moe_dsa": _glm_moe_dsa,
    "gpt2": _gpt2,
    "granitemoehybrid": granite_hybrid,
    "kimi_linear": kimi_linear,
    "lfm2": lambda config: {"block_dim": config["hidden_size"]},
    "llama4_text": _llama4_text,
    "longcat_flash": _longcat_flash,
    "mamba2": lambda config: {"intermediate_size": config["num_heads"] * config["head_dim"]},
    "mimo_v2_flash": mimo_v2_flash,
    "minicpm3": lambda config: {"rope_scaling": config.get("rope_scaling") or {}},
    "minimax_m2": _minimax_m2,
    "nemotron_h": _nemotron_h,
    "olmo": lambda config: {"rms_norm_eps": 1e-5},  # not in any configuration
    "olmo3": _olmo3,
    "qwen3_5_moe_text": full_attention_interval,
    "qwen3_5_text": full_attention_interval,
    "qwen3_moe": lambda config: {
        "head_dim": config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    },
    # Not a setting in transformers: the weights of the chosen experts always sum to one.
    "qwen3_vl_moe_text": lambda config: {"norm_topk_prob": True},
    "qwen3_next": full_attention_interval,
    "solar_open": _solar_open,
}
