"""Which language models cannot be computed correctly, judged by config.json before anything is loaded. No MLX."""

from collections.abc import Mapping
from typing import Any

from models.language.config.rope import TYPES, is_per_layer, rope_parameters, rope_type

# Rope types that mlx-lm computes for model types that transformers does not have.
MLX_LM_ROPE_TYPES = ("deepseek_yarn", "telechat3-yarn", "ntk", "axial")

# Model types whose output would differ from transformers', and why.
REFUSED: Mapping[str, str] = {
    "minimax_m3_vl": "its logits differ, for a reason not yet found",
    "minimax": "mlx-lm's network of that name is MiniMax-M2; it lacks the lightning attention of MiniMax-Text-01",
}

# Two networks share the model type; the one that mlx-lm has is recognized by this field.
RECOGNIZED_BY: Mapping[str, tuple[str, str]] = {
    "bailing_hybrid": ("group_norm_size", "the network with Kimi delta attention is not supported"),
    "bitnet": ("quantization_config", "the weights must be packed ternary numbers"),
}

# Settings that mlx-lm ignores: model type -> field -> the value it always computes with.
FIXED: Mapping[str, Mapping[str, Any]] = {
    "falcon_h1": {"attention_bias": False, "mlp_bias": False, "projectors_bias": False},
    "gpt2": {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False},
    "gpt_bigcode": {"scale_attn_weights": True},
    "gpt_oss": {"swiglu_limit": 7.0, "swiglu_alpha": 1.702},
    "ministral3": {"sliding_window": None},
    "olmoe": {"clip_qkv": None},
}


def why_unsupported(config: Mapping[str, Any]) -> str | None:
    """Why a config.json cannot be computed as transformers does; None if it can."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        return None
    if model_type in REFUSED:
        return f"{model_type} is not supported: {REFUSED[model_type]}"
    if model_type in RECOGNIZED_BY and not config.get(RECOGNIZED_BY[model_type][0]):
        field, reason = RECOGNIZED_BY[model_type]
        return f"{model_type} is only supported with {field} in its config.json: {reason}"
    for field, value in FIXED.get(model_type, {}).items():
        if config.get(field, value) != value:
            return f"{field} of {model_type} must be {value}; config.json has {config[field]!r}"
    return _nested_window(config) or _rope(config)


def _nested_window(config: Mapping[str, Any]) -> str | None:
    """mlx-lm's vision models ignore the sliding window of a Mistral inside them."""
    text = config.get("text_config")
    if not isinstance(text, Mapping) or text.get("model_type") != "mistral":
        return None
    window, longest = text.get("sliding_window"), text.get("max_position_embeddings")
    if isinstance(window, int) and not (isinstance(longest, int) and window >= longest):
        return f"sliding_window in text_config must be null; config.json has {window}"
    return None


def _rope(config: Mapping[str, Any]) -> str | None:
    """A rope type that is not supported, for all layers or one layer type."""
    nested = config.get("text_config")
    for source in (config, nested if isinstance(nested, Mapping) else {}):
        parameters = rope_parameters(source)
        for layer in parameters.values() if is_per_layer(parameters) else [parameters]:
            kind = rope_type(layer) if isinstance(layer, Mapping) else "default"
            if kind not in (*TYPES, *MLX_LM_ROPE_TYPES):
                return f"rope_type {kind!r} is not supported; supported are {', '.join(TYPES)}"
    return None
