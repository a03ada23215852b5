"""Fields that mlx-lm's architectures know by another name, or take where transformers has another default."""

from collections.abc import Callable, Mapping
from typing import Any

# model_type -> mlx-lm's field -> transformers' field.
RENAMED: Mapping[str, Mapping[str, str]] = {
    "gpt_neox": {"rotary_emb_base": "rope_theta", "rotary_pct": "partial_rotary_factor"},
}

# model_type -> fields computed from the whole configuration.
Fields = Callable[[Mapping[str, Any]], dict[str, Any]]
COMPUTED: Mapping[str, Fields] = {}
