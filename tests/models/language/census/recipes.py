"""What a tiny checkpoint of each model type looks like: no default, and no dimension that fits by luck."""

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, Any]

# Every setting is tried on every type; those that its configuration does not have are left out.
COMMON: Settings = {
    "vocab_size": 251,
    "hidden_size": 96,
    "n_embd": 96,
    "d_model": 96,
    "intermediate_size": 208,
    "n_inner": 208,
    "num_hidden_layers": 4,
    "n_layer": 4,
    "n_layers": 4,
    "num_attention_heads": 6,
    "n_head": 6,
    "n_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "max_position_embeddings": 512,
    "n_positions": 512,
    "rms_norm_eps": 3e-3,
    "layer_norm_eps": 2e-3,
    "layer_norm_epsilon": 2e-3,
    "norm_eps": 3e-3,
    "norm_epsilon": 2e-3,
    "sliding_window": 7,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "num_experts": 8,
    "num_local_experts": 8,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 56,
    "shared_expert_intermediate_size": 72,
    "q_lora_rank": 40,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 20,
    "v_head_dim": 28,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
    "routed_scaling_factor": 1.7,
    "rope_parameters": {"rope_theta": 321.0, "rope_type": "default"},
}

# What a type needs beside, or instead. None leaves out a setting of COMMON.
MLA: Settings = {"head_dim": None, "num_key_value_heads": 6}
SETTINGS: Mapping[str, Settings] = {
    "deepseek_v2": MLA,
    "deepseek_v3": MLA,
    "deepseek_v32": MLA,
    "glm4_moe_lite": MLA,
    "glm_moe_dsa": MLA,
    "longcat_flash": MLA,
    "minicpm3": MLA,
}

# Ways to rotate that transformers knows beside the default, tried on each type that has rope_parameters.
ROPES: Mapping[str, Settings] = {
    "linear": {"rope_type": "linear", "rope_theta": 321.0, "factor": 2.5},
    "dynamic": {"rope_type": "dynamic", "rope_theta": 321.0, "factor": 2.5},
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 321.0,
        "factor": 6.0,
        "low_freq_factor": 1.5,
        "high_freq_factor": 5.0,
        "original_max_position_embeddings": 120,
    },
    "yarn": {
        "rope_type": "yarn",
        "rope_theta": 321.0,
        "factor": 5.0,
        "beta_fast": 24.0,
        "beta_slow": 2.0,
        "original_max_position_embeddings": 100,
    },
}

# Types that are held to transformers, tied and untied.
VERIFIED = (
    "afmoe",
    "apertus",
    "cohere",
    "cohere2",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "dots1",
    "ernie4_5",
    "ernie4_5_moe",
    "exaone",
    "exaone4",
    "falcon_mamba",
    "gemma",
    "gemma2",
    "gemma3_text",
    "glm",
    "glm4",
    "glm4_moe",
    "glm4_moe_lite",
    "glm_moe_dsa",
    "gpt2",
    "gpt_bigcode",
    "gpt_neox",
    "gpt_oss",
    "llama",
    "olmo2",
    "qwen2",
    "qwen3",
    "stablelm",
)

# Of these, types that rotate nothing.
WITHOUT_ROPE = ("falcon_mamba", "gpt2", "gpt_bigcode", "mamba", "mamba2")

# Types that both have, and that cannot be compared.
NOT_COMPARABLE: Mapping[str, str] = {}

# Types that are refused, by what their refusal says.
REFUSED: Mapping[str, str] = {}
