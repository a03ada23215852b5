"""What a language model's config.json says of it before anything is loaded. No MLX, and no import of mlx-lm."""

import ast
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

CONTEXT_KEYS = (
    "max_position_embeddings",
    "max_seq_len",
    "n_positions",
    "max_sequence_length",
    "seq_length",
)

# Some configs state numbers that only mean: no limit.
LONGEST = 2**31 - 1


def stated_context(config: Mapping[str, Any]) -> int | None:
    """The longest text in tokens that a config states."""
    nested = config.get("text_config")
    for source in (config, nested if isinstance(nested, dict) else {}):
        for key in CONTEXT_KEYS:
            if type(source.get(key)) is int and source[key] > 0:
                return min(int(source[key]), LONGEST)
    return None


def has_architecture(model_type: str) -> bool:
    """Whether mlx-lm, as installed, has the architecture that a config's model_type names."""
    package = _package()
    if package is None or (not model_type.isidentifier() and not model_type.replace("-", "_").isidentifier()):
        return False
    return (package / "models" / f"{model_type}.py").is_file() or model_type in _other_names(package)


def has_mlx_lm() -> bool:
    return _package() is not None


@cache
def _package() -> Path | None:
    spec = importlib.util.find_spec("mlx_lm")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


@cache
def _other_names(package: Path) -> frozenset[str]:
    """Model types that run under another name: mlx-lm's own table, read as text, since importing it brings MLX."""
    for node in ast.parse((package / "utils.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "MODEL_REMAPPING":
            return frozenset(ast.literal_eval(node.value))
    return frozenset()
