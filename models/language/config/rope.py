"""Rotary embeddings in config.json: today's `rope_parameters`, and the older flat fields that mlx-lm reads.

transformers 5 writes {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, …}}, for some models with one such
object per layer type. Older files have `rope_theta`, `partial_rotary_factor` and `rope_scaling` side by side.
"""

from collections.abc import Mapping
from typing import Any

LAYER_TYPES = ("full_attention", "sliding_attention", "chunked_attention", "linear_attention")
# Types with the default frequencies (for text).
PLAIN = ("default", "mrope")
# Types that are computed here (frequencies.py).
TYPES = ("default", "dynamic", "linear", "llama3", "yarn", "longrope", "proportional")
ALIASES = {"su": "longrope", "mrope": "default"}


def is_per_layer(parameters: Mapping[str, Any]) -> bool:
    """Whether each layer type has its own parameters."""
    return any(key in LAYER_TYPES for key in parameters)


def rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of either layout as one object; `rope_parameters` takes precedence."""
    merged: dict[str, Any] = {}
    for key in ("rope_scaling", "rope_parameters"):
        value = config.get(key)
        merged |= value if isinstance(value, Mapping) else {}
    if not is_per_layer(merged):
        for key in ("rope_theta", "partial_rotary_factor"):
            if config.get(key) is not None:
                merged.setdefault(key, config[key])
    return merged


def rope_type(parameters: Mapping[str, Any]) -> str:
    name = parameters.get("rope_type") or parameters.get("type") or "default"
    return ALIASES.get(name, name) if isinstance(name, str) else repr(name)


def flat_rope(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that mlx-lm's architectures read, from the parameters of one layer type."""
    fields: dict[str, Any] = {
        key: parameters[key]
        for key in ("rope_theta", "partial_rotary_factor")
        if parameters.get(key) is not None
    }
    kind = rope_type(parameters)
    fields["rope_scaling"] = None if kind in PLAIN else {**parameters, "type": kind, "rope_type": kind}
    return fields
