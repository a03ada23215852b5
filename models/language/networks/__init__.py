"""Corrected versions of mlx-lm's architectures that differ from transformers in a weight's name, a factor or a layer.

    NETWORKS   model type -> the module of this package that is used instead of mlx-lm's

Like mlx-lm's modules, each has `Model` and `ModelArgs`; it contains only the difference. What several of them need is in
attention.py, experts.py, feed_forward.py and norms.py. Importing this package does not import MLX.
"""

from collections.abc import Mapping

NETWORKS: Mapping[str, str] = {
    "cohere2": "cohere2",
    "ernie4_5_moe": "ernie4_5_moe",
    "exaone": "exaone",
    "exaone4": "exaone4",
    "falcon_h1": "falcon_h1",
    "falcon_mamba": "mamba",
    "gemma3": "gemma3",
    "gemma3_text": "gemma3_text",
    "glm4_moe_lite": "glm4_moe_lite",
    "gpt2": "gpt2",
    "gpt_neox": "gpt_neox",
    "gpt_oss": "gpt_oss",
    "gptj": "gptj",
    "granitemoehybrid": "granitemoehybrid",
    "idefics3": "idefics3",
    "jamba": "jamba",
    "kimi_linear": "kimi_linear",
    "llama4_text": "llama4_text",
    "longcat_flash": "longcat_flash",
    "mamba": "mamba",
    "mamba2": "mamba2",
    "minicpm3": "minicpm3",
    "mistral": "mistral",
    "muse_glimmer": "muse_glimmer",
    "olmo": "olmo",
    "olmo_hybrid": "olmo_hybrid",
    "qwen2_5_vl": "qwen2_5_vl",
    "qwen2_moe": "qwen2_moe",
    "qwen3_5_moe": "qwen3_5_moe",
    "qwen3_5_moe_text": "qwen3_5_text",
    "qwen3_5_text": "qwen3_5_text",
    "qwen3_vl": "qwen3_vl",
    "qwen3_vl_moe": "qwen3_vl_moe",
    "recurrent_gemma": "recurrent_gemma",
    "smolvlm": "idefics3",
}
