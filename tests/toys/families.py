"""The architectures that toys are made of, and their sizes: none is a real one scaled down."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Config = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """One architecture: the config.json that it wants, the tokenizer it comes with."""

    style: str
    config: Config
    # Tied embeddings would only echo the last token, were they not softer than what the layers add.
    # The last norm makes up for it.
    softness: float = 1.0
    # Dimensions that follow from the number of layers.
    layered: Callable[[int], Config] = field(default=lambda layers: {})


COMMON: Config = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "intermediate_size": 160,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}

FAMILIES: dict[str, Family] = {
    "llama": Family(
        "plain",
        {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu"},
    ),
    "qwen3": Family(
        "chatml",
        {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu"},
    ),
    "mistral": Family(
        "inst",
        {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None},
    ),
    "gemma3": Family(
        "turns",
        {
            "architectures": ["Gemma3ForCausalLM"],
            "model_type": "gemma3_text",
            "num_hidden_layers": 4,
            "num_key_value_heads": 1,
            "query_pre_attn_scalar": 32,
            "rope_theta": 1e6,
            "rope_local_base_freq": 10000.0,
            # Small, so that ordinary prompts go around the rotating cache.
            "sliding_window": 48,
            "sliding_window_pattern": 2,
            "tie_word_embeddings": True,
        },
        softness=8.0,
    ),
    "glm4_moe_lite": Family(
        "chatml",
        {
            "architectures": ["Glm4MoeLiteForCausalLM"],
            "model_type": "glm4_moe_lite",
            "num_key_value_heads": 4,
            "moe_intermediate_size": 96,
            "n_routed_experts": 6,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "q_lora_rank": 96,
            "kv_lora_rank": 64,
            "qk_nope_head_dim": 32,
            "qk_rope_head_dim": 16,
            "v_head_dim": 32,
        },
    ),
    "lfm2": Family(
        "plain",
        {
            "architectures": ["Lfm2ForCausalLM"],
            "model_type": "lfm2",
            "num_attention_heads": 2,
            "norm_eps": 1e-6,
            "conv_bias": False,
            "conv_L_cache": 3,
            "block_dim": 64,
            "block_ff_dim": 160,
            "block_multiple_of": 32,
            "block_ffn_dim_multiplier": 1.0,
            "block_auto_adjust_ff_dim": False,
            "tie_word_embeddings": True,
        },
        softness=8.0,
        layered=lambda layers: {
            "layer_types": ["full_attention" if i % 2 else "conv" for i in range(layers)]
        },
    ),
    "qwen3_next": Family(
        "chatml",
        {
            "architectures": ["Qwen3NextForCausalLM"],
            "model_type": "qwen3_next",
            "num_hidden_layers": 4,
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 32,
            "linear_value_head_dim": 32,
            "linear_conv_kernel_dim": 4,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "decoder_sparse_step": 2,
            "norm_topk_prob": True,
            "mlp_only_layers": [],
            "shared_expert_intermediate_size": 64,
            "moe_intermediate_size": 64,
            "partial_rotary_factor": 0.5,
            "full_attention_interval": 2,
        },
    ),
}

# Sizes to measure speed on; the default is for tests.
SIZES: dict[str, Config] = {
    "test": {},
    "nano": {
        "vocab_size": 2048,
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "intermediate_size": 384,
        "max_position_embeddings": 16384,
    },
    "tiny": {
        "vocab_size": 4096,
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "intermediate_size": 1024,
        "num_attention_heads": 6,
        "head_dim": 64,
        "max_position_embeddings": 16384,
    },
}
