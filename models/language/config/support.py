"""Which language models cannot be run right, by their config.json alone. Asked before anything is loaded; no MLX."""

from collections.abc import Mapping
from typing import Any

# Model types whose text differs from what transformers writes, and why.
REFUSED: Mapping[str, str] = {}


def why_unsupported(config: Mapping[str, Any]) -> str | None:
    """What about a config.json cannot be computed as transformers computes it; None where all of it can."""
    model_type = config.get("model_type")
    reason = REFUSED.get(model_type) if isinstance(model_type, str) else None
    return (
        None if reason is None else f"{model_type} cannot be computed as transformers computes it: {reason}"
    )
