"""Layer types: transformers lists them in `layer_types`, mlx-lm's architectures use intervals, letters or lists."""

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]
FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"


def granite_hybrid(config: Config) -> dict[str, Any]:
    names = {LINEAR: "mamba", FULL: "attention"}
    rotated = config.get("position_embedding_type") == "rope"
    fields = {
        "layer_types": [names.get(kind, kind) for kind in config["layer_types"]],
        "position_embedding_type": "rope" if rotated else "nope",
    }
    if not config.get("num_local_experts"):  # there is only the shared expert
        fields["intermediate_size"] = config["shared_intermediate_size"]
    return fields


def full_attention_interval(config: Config) -> dict[str, Any]:
    """Every how many layers one has full attention; transformers lists the type of each layer instead."""
    kinds = config.get("layer_types")
    if not kinds:
        return {}
    full = [number for number, kind in enumerate(kinds, 1) if kind == FULL]
    interval = full[0] if full else len(kinds) + 1
    if full != list(range(interval, len(kinds) + 1, interval)):
        raise ValueError(f"layer_types must have full_attention at a regular interval, not at layers {full}")
    return {"full_attention_interval": interval}


def kimi_linear(config: Config) -> dict[str, Any]:
    """Counts layers from one."""
    kinds, blocks = config.get("layer_types"), config.get("mlp_layer_types")
    fields: dict[str, Any] = {"rope_theta": 10_000.0}  # no layer rotates
    if blocks:
        fields["first_k_dense_replace"] = first = blocks.count("dense")
        if blocks != ["dense"] * first + ["sparse"] * (len(blocks) - first):
            raise ValueError(f"mlp_layer_types must have the dense layers first, not {blocks}")
    if kinds and not config.get("linear_attn_config"):
        fields["linear_attn_config"] = {
            "kda_layers": [number for number, kind in enumerate(kinds, 1) if kind == LINEAR],
            "full_attn_layers": [number for number, kind in enumerate(kinds, 1) if kind == FULL],
            "head_dim": config["linear_head_dim"],
            "num_heads": config["linear_num_heads"],
            "short_conv_kernel_size": config["linear_conv_kernel_dim"],
        }
    return fields


def mimo_v2_flash(config: Config) -> dict[str, Any]:
    """Sliding layers have sinks and twice the key heads; their window includes the query itself."""
    rope = config["rope_parameters"]
    full, sliding = rope.get(FULL, rope), rope.get(SLIDING, rope)
    heads, keys = config["num_attention_heads"], config["num_key_value_heads"]
    size = config.get("sliding_window_size")
    defaults = {
        "hybrid_layer_pattern": [int(kind == SLIDING) for kind in config.get("layer_types") or ()],
        "moe_layer_freq": [int(kind == "sparse") for kind in config.get("mlp_layer_types") or ()],
        "add_swa_attention_sink_bias": True,
        "add_full_attention_sink_bias": False,
        "n_shared_experts": None,
        "topk_method": "noaux_tc",
        "scoring_func": "sigmoid",
        "layernorm_epsilon": config.get("rms_norm_eps"),
        "swa_num_attention_heads": heads,
        "swa_num_key_value_heads": 2 * keys,
        "swa_head_dim": config["head_dim"],
        "swa_v_head_dim": config["v_head_dim"],
        "swa_rope_theta": sliding["rope_theta"],
        "rope_theta": full["rope_theta"],
        "partial_rotary_factor": full.get("partial_rotary_factor", 0.334),
    }
    explicit = {name: config[name] for name in defaults if config.get(name) is not None}
    window = config["sliding_window"] if size is None else size + 1
    return {**defaults, **explicit, "sliding_window_size": window}
