"""What a language model's config.json says about it, without loading anything. Imports neither MLX nor mlx-lm."""

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

# Model types of networks here that mlx-lm has none for.
OURS = frozenset(("idefics3", "smolvlm"))

# Some configs have huge numbers that mean: no limit.
LONGEST = 2**31 - 1


def max_context(config: Mapping[str, Any]) -> int | None:
    """The context length in tokens, if the config has one."""
    nested = config.get("text_config")
    for source in (config, nested if isinstance(nested, dict) else {}):
        for key in CONTEXT_KEYS:
            if type(source.get(key)) is int and source[key] > 0:
                return min(int(source[key]), LONGEST)
    return None


def scores_documents(config: Mapping[str, Any], name: str) -> bool:
    """Whether a model is one of Qwen3's rerankers. Their files are those of a language model that writes; what tells them
    apart is their name."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return config.get("model_type") == "qwen3" and "rerank" in last.lower()


def has_architecture(model_type: str) -> bool:
    """Whether there is an architecture for this model_type, in the installed mlx-lm or here."""
    package = _package()
    if package is None or (not model_type.isidentifier() and not model_type.replace("-", "_").isidentifier()):
        return False
    return (package / "models" / f"{model_type}.py").is_file() or model_type in OURS | _remapped(package)


def has_mlx_lm() -> bool:
    return _package() is not None


@cache
def _package() -> Path | None:
    spec = importlib.util.find_spec("mlx_lm")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return Path(folders[0]) if folders else None


@cache
def _remapped(package: Path) -> frozenset[str]:
    """Model types that mlx-lm maps to other names. Its table is read as text, because importing it would import MLX."""
    for node in ast.parse((package / "utils.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "MODEL_REMAPPING":
            return frozenset(ast.literal_eval(node.value))
    return frozenset()
