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
EVEN: Settings = {"head_dim": 16}  # heads share hidden_size: the network has no other width for them
MAMBA2: Settings = {
    "mamba_n_heads": 8,
    "mamba_d_head": 24,
    "mamba_n_groups": 2,
    "mamba_d_state": 16,
    "mamba_chunk_size": 16,
    "mamba_num_heads": 8,
    "mamba_head_dim": 24,
    "ssm_state_size": 16,
    "n_groups": 2,
    "chunk_size": 16,
    "time_step_limit": (0.01, 2.0),
}
DELTA: Settings = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 12,
    "linear_value_head_dim": 20,
    "layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"],
}
ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
PER_LAYER: Settings = {
    "layer_types": ALTERNATING,
    "rope_parameters": {
        "full_attention": {"rope_theta": 321.0, "rope_type": "default"},
        "sliding_attention": {"rope_theta": 77.0, "rope_type": "default"},
    },
}
GRANITE: Settings = {
    "embedding_multiplier": 3.0,
    "logits_scaling": 1.7,
    "residual_multiplier": 0.6,
    "attention_multiplier": 0.3,
}
THREE_AXES = {"rope_theta": 321.0, "rope_type": "default", "mrope_section": [2, 3, 3]}
SETTINGS: Mapping[str, Settings] = {
    "deepseek_v2": MLA,
    "deepseek_v3": MLA,
    "deepseek_v32": MLA,
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 0.7, "rope_theta": 321.0},
        "ffn_config": {"ffn_hidden_size": 56, "moe_num_experts": 8, "moe_top_k": 2, "hidden_size": 96},
    },
    "exaone_moe": {"n_group": 4, "topk_group": 2, "num_experts": 8, "sliding_window_pattern": 3},
    "falcon_h1": {
        "mamba_d_ssm": 96,
        "mamba_n_heads": 6,
        "mamba_d_head": 16,
        "mamba_n_groups": 2,
        "mamba_d_state": 16,
        "mamba_chunk_size": 16,
        "lm_head_multiplier": 0.7,
        "embedding_multiplier": 1.9,
        "mlp_multipliers": [0.8, 1.3],
        "key_multiplier": 0.6,
        "attention_out_multiplier": 1.4,
        "attention_in_multiplier": 0.9,
        "ssm_multipliers": [1.2, 0.7, 1.1, 0.8, 1.3],
        "ssm_in_multiplier": 1.25,
        "ssm_out_multiplier": 0.85,
    },
    "gemma4_text": {
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 321.0},
            "full_attention": {
                "rope_type": "proportional",
                "partial_rotary_factor": 0.25,
                "rope_theta": 5432.0,
            },
        },
        "vocab_size_per_layer_input": 251,
        "hidden_size_per_layer_input": 16,
        "num_hidden_layers": 6,
        "moe_intermediate_size": None,
        "num_experts": None,
    },
    "gemma4_unified_text": {
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 321.0},
            "full_attention": {
                "rope_type": "proportional",
                "partial_rotary_factor": 0.25,
                "rope_theta": 5432.0,
            },
        },
        "num_hidden_layers": 6,
    },
    "glm4_moe_lite": MLA,
    "glm_moe_dsa": MLA,
    "gptj": {"rotary_dim": 8},
    "granite": {**GRANITE, "attention_bias": True, "mlp_bias": True},
    "granitemoe": {**GRANITE, "attention_bias": True},
    "granitemoehybrid": {
        **GRANITE,
        **MAMBA2,
        "layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"],
        "position_embedding_type": "rope",
        "shared_intermediate_size": 72,
    },
    "helium": EVEN,
    "hunyuan_v1_dense": {"attention_bias": True},
    "internlm3": {**EVEN, "bias": True, "qkv_bias": True},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 12, "mamba_dt_rank": 10},
    "kimi_linear": {
        **MLA,
        "q_lora_rank": None,
        "linear_head_dim": 16,
        "linear_num_heads": 6,
        "layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"],
        "num_experts_per_token": 2,
        "num_expert_group": 2,
        "topk_group": 1,
        "model_max_length": 512,
    },
    "laguna": {**PER_LAYER, "num_attention_heads_per_layer": [6, 4, 6, 4], "moe_routed_scaling_factor": 1.7},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"], "conv_bias": True},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"], "num_dense_layers": 1},
    "llama4_text": {
        "num_experts_per_tok": 1,
        "floor_scale": 4,
        "attention_chunk_size": 7,
        "interleave_moe_layer_step": 2,
        "intermediate_size_mlp": 112,
    },
    "longcat_flash": {
        **MLA,
        "head_dim": 8,
        "num_layers": 2,
        "ffn_hidden_size": 112,
        "expert_ffn_hidden_size": 56,
        "moe_topk": 3,
        "zero_expert_num": 4,
    },
    "mamba": {"state_size": 12, "time_step_rank": 10},
    "mamba2": {**MAMBA2, "num_heads": 8, "state_size": 16, "head_dim": 24},
    "mellum": PER_LAYER,
    "mimo_v2_flash": {
        "layer_types": ALTERNATING,
        "rope_parameters": {
            "full_attention": {"rope_theta": 321.0, "rope_type": "default", "partial_rotary_factor": 0.5},
            "sliding_attention": {"rope_theta": 77.0, "rope_type": "default", "partial_rotary_factor": 0.5},
        },
        "num_attention_heads": 4,
        "v_head_dim": 20,
        "attention_value_scale": 0.7,
    },
    "minicpm3": {**MLA, "v_head_dim": 16, "scale_emb": 3.0, "scale_depth": 1.2, "dim_model_base": 48},
    "minimax": {
        "layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"],
        "block_size": 16,
    },
    "ministral3": {
        "sliding_window": None,
        "rope_parameters": {
            "rope_theta": 321.0,
            "rope_type": "yarn",
            "factor": 5.0,
            "original_max_position_embeddings": 16,
            "llama_4_scaling_beta": 0.2,
        },
    },
    "mistral4": {
        **MLA,
        "head_dim": None,
        "rope_parameters": {
            "rope_theta": 321.0,
            "rope_type": "yarn",
            "factor": 5.0,
            "original_max_position_embeddings": 16,
            "mscale": 1.0,
            "mscale_all_dim": 0.7,
            "llama_4_scaling_beta": 0.2,
        },
    },
    "mixtral": EVEN,
    "nemotron": {"attention_bias": True, "mlp_bias": True},
    "nemotron_h": {
        **MAMBA2,
        "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"],
        "moe_shared_expert_intermediate_size": 72,
        "sliding_window": None,
    },
    "olmo": {"clip_qkv": 1.5},
    "olmo3": {**PER_LAYER, "attention_bias": True},
    # Its sizes are alike: transformers 5.24 writes the three convolutions as thirds, whatever their sizes are.
    "olmo_hybrid": {**DELTA, "linear_key_head_dim": 20, "linear_value_head_dim": 10},
    "olmoe": {"norm_topk_prob": True, "attention_bias": True},
    "phi": {"qk_layernorm": False},
    "phi3": {"original_max_position_embeddings": 512},
    "phimoe": {"attention_bias": True, "lm_head_bias": True},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 2},
    "qwen2_5_vl_text": {"rope_parameters": THREE_AXES},
    "qwen2_vl_text": {"rope_parameters": THREE_AXES},
    "qwen2_moe": {"norm_topk_prob": True, "use_sliding_window": True, "max_window_layers": 2},
    "qwen3_5_moe_text": DELTA,
    "qwen3_5_text": DELTA,
    "qwen3": {"use_sliding_window": True, "max_window_layers": 2},
    "qwen3_moe": {"norm_topk_prob": True, "mlp_only_layers": [1], "use_sliding_window": True},
    "qwen3_next": DELTA,
    "recurrent_gemma": {
        **EVEN,
        "lru_width": 96,
        "attention_window_size": 7,
        "logits_soft_cap": 5.0,
        "num_key_value_heads": 1,
    },
    "seed_oss": {"attention_bias": True, "attention_out_bias": True, "mlp_bias": True},
    "smollm3": {"no_rope_layers": [1, 0, 1, 0], "attention_bias": True},
    "stablelm": {"use_qkv_bias": True},
}

# Types with a model for pictures beside the one for text, which alone is run: that text's own type.
TOWERS: Mapping[str, str] = {
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "gemma4_unified": "gemma4_unified_text",
    "mistral3": "ministral3",
    "muse_glimmer": "muse_glimmer_text",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen2_vl": "qwen2_vl_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
}
VISION: Settings = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "depth": 1,
    "embed_dim": 32,
    "num_heads": 2,
    "out_hidden_size": 96,
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


def longrope(pairs: int, trained: int) -> Settings:
    """Other frequencies in texts of more than `trained` tokens."""
    return {
        "rope_type": "longrope",
        "rope_theta": 321.0,
        "factor": 4.0,
        "short_factor": [1.0 + 0.1 * i for i in range(pairs)],
        "long_factor": [1.5 + 0.3 * i for i in range(pairs)],
        "original_max_position_embeddings": trained,
    }


# Types that are held to transformers, tied and untied.
VERIFIED = (
    "afmoe",
    "apertus",
    "cohere",
    "cohere2",
    "dbrx",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "dots1",
    "ernie4_5",
    "ernie4_5_moe",
    "exaone",
    "exaone4",
    "exaone_moe",
    "falcon_h1",
    "falcon_mamba",
    "gemma",
    "gemma2",
    "gemma3_text",
    "gemma4_text",
    "glm",
    "glm4",
    "glm4_moe",
    "glm4_moe_lite",
    "glm_moe_dsa",
    "gpt2",
    "gpt_bigcode",
    "gpt_neox",
    "gpt_oss",
    "gptj",
    "granite",
    "granitemoe",
    "granitemoehybrid",
    "helium",
    "hunyuan_v1_dense",
    "internlm3",
    "iquestcoder",
    "jamba",
    "kimi_linear",
    "laguna",
    "lfm2",
    "lfm2_moe",
    "llama",
    "llama4_text",
    "longcat_flash",
    "mamba",
    "mamba2",
    "mellum",
    "mimo_v2_flash",
    "minicpm3",
    "minimax_m2",
    "ministral3",
    "mistral",
    "mistral4",
    "mixtral",
    "nemotron",
    "nemotron_h",
    "olmo",
    "olmo2",
    "olmo3",
    "olmo_hybrid",
    "olmoe",
    "phi",
    "phi3",
    "phimoe",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_5_moe_text",
    "qwen3_5_text",
    "qwen3_moe",
    "qwen3_next",
    "recurrent_gemma",
    "seed_oss",
    "smollm3",
    "solar_open",
    "stablelm",
    "starcoder2",
)

# Of these, types whose rotations are not told by one rope_parameters of every kind.
WITHOUT_ROPE = (
    "mistral4",
    "dbrx",
    "falcon_mamba",
    "gemma4_text",
    "gpt2",
    "gpt_bigcode",
    "gptj",
    "jamba",
    "kimi_linear",
    "mamba",
    "mamba2",
    "nemotron_h",
)

# Of these, types that are always untied.
UNTIED = ("dbrx",)

# Types that transformers rotates in these ways alone, beside the default.
OWN_ROPES: Mapping[str, Mapping[str, Settings]] = {
    "minicpm3": {**ROPES, "longrope, short": longrope(4, 512), "longrope, long": longrope(4, 20)},
    "ministral3": {},
    "recurrent_gemma": {},
    "phi3": {"longrope, short": longrope(8, 512), "longrope, long": longrope(8, 20)},
    # transformers takes the short factors in long texts too, where the model's own code takes the long ones.
    "phimoe": {"longrope, short": {**longrope(8, 512), "short_mscale": 1.3, "long_mscale": 1.4}},
}


def ropes(model_type: str) -> Mapping[str, Settings]:
    """Ways to rotate by their names; of types whose layers differ, for those that attend to everything."""
    if model_type in WITHOUT_ROPE or model_type in TOWERS:
        return {}
    usual = SETTINGS.get(model_type, {}).get("rope_parameters", {})
    ways = OWN_ROPES.get(model_type, ROPES)
    if "full_attention" in usual:
        full = usual["full_attention"]
        return {name: {**usual, "full_attention": {**full, **way}} for name, way in ways.items()}
    return ways


# Types that both have, and that cannot be compared.
NOT_COMPARABLE: Mapping[str, str] = {
    "bailing_hybrid": "two networks have that name: mlx-lm has the one with lightning attention, transformers the one with Kimi delta attention, which is refused",
    "bitnet": "mlx-lm reads packed ternary weights, which transformers' class does not write; others are refused",
    "gemma3n": "transformers needs the package timm to make it",
    "kimi_k25": "transformers 5.24 writes the layers of its text by the name of its vision's, which no reader knows",
    "llama4": "transformers 5.24 cannot compute it without a picture; its text alone is llama4_text",
    "llava": "the text inside is of any type: its own line holds",
    "muse_spark": "transformers' class needs towers for pictures and sound of its own sizes",
    "nanochat": "mlx-lm reads its own conversion; what transformers writes is refused at load for the names of its weights",
    "pixtral": "transformers has no class of that type that writes",
    "step3p5": "transformers has no class of that type that writes",
}
