"""Which language models cannot be run right, by their config.json alone. Asked before anything is loaded; no MLX."""

from collections.abc import Mapping
from typing import Any

from models.language.config.rope import TYPES, is_per_layer, rope_parameters, rope_type

# Ways to rotate that mlx-lm has for types that transformers does not know.
OF_MLX_LM = ("deepseek_yarn", "telechat3-yarn", "ntk", "axial")

# Model types whose text differs from what transformers writes, and why.
REFUSED: Mapping[str, str] = {
    "minimax_m3_vl": "its logits were seen to differ, and it is not known yet where",
    "minimax": "mlx-lm's network of that name is MiniMax-M2's, and the lightning attention of MiniMax-Text-01 is not there",
}


# Fields by which mlx-lm's network of a type is told from another of that name.
TOLD_BY: Mapping[str, tuple[str, str]] = {
    "bailing_hybrid": ("group_norm_size", "the network with Kimi delta attention is not supported"),
    "bitnet": ("quantization_config", "weights have to be packed ternary numbers"),
}

# Settings that mlx-lm takes for granted: model type -> field -> the value it computes with.
GRANTED: Mapping[str, Mapping[str, Any]] = {
    "falcon_h1": {"attention_bias": False, "mlp_bias": False, "projectors_bias": False},
    "gpt2": {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False},
    "gpt_bigcode": {"scale_attn_weights": True},
    "gpt_oss": {"swiglu_limit": 7.0, "swiglu_alpha": 1.702},
    "ministral3": {"sliding_window": None},
    "olmoe": {"clip_qkv": None},
}


def why_unsupported(config: Mapping[str, Any]) -> str | None:
    """What about a config.json cannot be computed as transformers computes it; None where all of it can."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        return None
    if model_type in REFUSED:
        return f"{model_type} cannot be computed as transformers computes it: {REFUSED[model_type]}"
    if model_type in TOLD_BY and not config.get(TOLD_BY[model_type][0]):
        field, reason = TOLD_BY[model_type]
        return f"{model_type} is supported with {field} in its config.json: {reason}"
    for field, value in GRANTED.get(model_type, {}).items():
        if config.get(field, value) != value:
            return f"{field} of {model_type} can only be {value}; config.json says {config[field]!r}"
    return _window_inside(config) or _rotation(config)


def _window_inside(config: Mapping[str, Any]) -> str | None:
    """mlx-lm's models that see leave out the window of a Mistral inside them."""
    text = config.get("text_config")
    if not isinstance(text, Mapping) or text.get("model_type") != "mistral":
        return None
    window, longest = text.get("sliding_window"), text.get("max_position_embeddings")
    if isinstance(window, int) and not (isinstance(longest, int) and window >= longest):
        return f"sliding_window in text_config can only be null; config.json says {window}"
    return None


def _rotation(config: Mapping[str, Any]) -> str | None:
    """A way to rotate that is not computed here, of all layers or of a type of layer."""
    nested = config.get("text_config")
    for source in (config, nested if isinstance(nested, Mapping) else {}):
        parameters = rope_parameters(source)
        each = list(parameters.values()) if is_per_layer(parameters) else [parameters]
        for one in each:
            kind = rope_type(one) if isinstance(one, Mapping) else "default"
            if kind not in (*TYPES, *OF_MLX_LM):
                return f"rotary embeddings of the type {kind!r} are not supported; {', '.join(TYPES)} are"
    return None
