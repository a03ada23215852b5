"""Which encoders can be run, and how much they read, by config.json alone. No MLX."""

from collections.abc import Mapping
from typing import Any

BERT = ("bert",)
# Positions begin after the padding token's id.
ROBERTA = ("roberta", "xlm-roberta", "camembert")
NOMIC = ("nomic_bert",)
MODERNBERT = ("modernbert",)
TYPES = (*BERT, *ROBERTA, *NOMIC, *MODERNBERT)

_BERT_FIXED: Mapping[str, tuple[Any, ...]] = {
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
}
# Fields whose other values would need another network: model type -> field -> the values that are computed.
FIXED: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    **dict.fromkeys((*BERT, *ROBERTA), _BERT_FIXED),
    "nomic_bert": {
        "activation_function": ("swiglu",),
        "causal": (False,),
        "mlp_fc1_bias": (False,),
        "mlp_fc2_bias": (False,),
        "moe_every_n_layers": (0, -1, None),
        "num_experts": (0, None),
        "parallel_block": (False,),
        "prenorm": (False,),
        "qkv_proj_bias": (False,),
        "rotary_emb_fraction": (1, None),
        "rotary_emb_interleaved": (False,),
        "rotary_emb_scale_base": (None,),
        "rotary_scaling_factor": (None,),
        "use_rms_norm": (False, None),
    },
}
CLASSIFIER = "ForSequenceClassification"
# transformers' number of labels where a config names none.
DEFAULT_LABELS = 2


def is_encoder(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") in TYPES


def is_classifier(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint scores texts instead of making vectors of them."""
    names = config.get("architectures")
    return isinstance(names, list) and any(str(name).endswith(CLASSIFIER) for name in names)


def labels(config: Mapping[str, Any]) -> int:
    named, count = config.get("id2label"), config.get("num_labels")
    if isinstance(named, Mapping) and named:
        return len(named)
    return count if type(count) is int else DEFAULT_LABELS


def why_unsupported(config: Mapping[str, Any]) -> str | None:
    """Why an encoder's config.json cannot be computed as transformers does; None if it can."""
    model_type = str(config.get("model_type"))
    for field, values in FIXED.get(model_type, {}).items():
        if field in config and config[field] not in values:
            return f"{field} of {model_type} must be {values[0]}; config.json has {config[field]!r}"
    if is_classifier(config) and labels(config) != 1:
        return f"it sorts texts into {labels(config)} classes; supported are models with one, which is a relevance score"
    if is_classifier(config) and model_type in NOMIC:
        return f"{model_type} as a classifier is not supported"
    return _rope(config)


def _rope(config: Mapping[str, Any]) -> str | None:
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(parameters, Mapping):
        return f"rope_parameters must be an object; config.json has {parameters!r}"
    layers = [value for value in parameters.values() if isinstance(value, Mapping)]
    for layer in (parameters, *layers):
        kind = layer.get("rope_type", layer.get("type", "default"))
        if kind != "default":
            return f"rope_type {kind!r} of an encoder is not supported; it must be 'default'"
    return None


def max_context(config: Mapping[str, Any]) -> int | None:
    """The longest text in tokens that an encoder has positions for, if its config says so."""
    positions = config.get("max_position_embeddings", config.get("n_positions"))
    if type(positions) is not int or positions < 1:
        return None
    if config.get("model_type") in ROBERTA:
        padding = config.get("pad_token_id", 1)
        return max(positions - (padding if type(padding) is int else 1) - 1, 1)
    return positions
