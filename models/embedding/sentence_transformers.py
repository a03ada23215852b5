"""Hidden states to one vector per text, as the files of a sentence-transformers checkpoint specify."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from models.checkpoint.weights import load_component
from models.config import Config, read_json
from models.files import Shard

# In the order in which several modes are concatenated.
OLD_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
MODES = tuple(OLD_KEYS.values())
MODULES = ("Transformer", "Pooling", "Dense", "Normalize")
ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "torch.nn.modules.activation.Tanh": mx.tanh,
    "torch.nn.modules.linear.Identity": lambda x: x,
}


class EmbeddingError(ValueError):
    """A model or checkpoint whose embeddings Diptych cannot compute."""


@dataclass(frozen=True)
class PoolingConfig(Config):
    """1_Pooling/config.json, in the new format (`pooling_mode`) or the old one (one flag per mode)."""

    pooling_mode: str | tuple[str, ...] | None = None
    include_prompt: bool = True
    pooling_mode_cls_token: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False
    pooling_mode_weightedmean_tokens: bool = False
    pooling_mode_lasttoken: bool = False

    @property
    def modes(self) -> tuple[str, ...]:
        if self.pooling_mode is None:
            return tuple(mode for key, mode in OLD_KEYS.items() if getattr(self, key)) or ("mean",)
        modes = (self.pooling_mode,) if isinstance(self.pooling_mode, str) else self.pooling_mode
        unknown = sorted(set(modes) - set(MODES))
        if unknown or not modes:
            raise EmbeddingError(
                f"pooling_mode {', '.join(map(repr, unknown)) or '[]'} is not supported; it can be {', '.join(MODES)}"
            )
        return modes


@dataclass(frozen=True)
class DenseConfig(Config):
    in_features: int
    out_features: int
    bias: bool = True
    activation_function: str = "torch.nn.modules.activation.Tanh"
    module_input_name: str = "sentence_embedding"
    module_output_name: str | None = None
    use_residual: bool = False


class Dense(nn.Module):
    """A learned projection of the pooled vectors."""

    def __init__(self, config: DenseConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.in_features, config.out_features, bias=config.bias)
        self._activation = ACTIVATIONS[config.activation_function]

    def __call__(self, x: mx.array) -> mx.array:
        return self._activation(self.linear(x))


@dataclass(frozen=True)
class SentenceHead:
    """How a checkpoint turns hidden states into vectors. Without its files: the mean."""

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    then: tuple[Callable[[mx.array], mx.array], ...] = ()

    def __call__(self, hidden: mx.array, lengths: mx.array, prompt: int) -> mx.array:
        """float32 vectors of length 1 from hidden states [B, L, H], of which the first `lengths` [B] of each row count.

        The first `prompt` tokens of each text are the model's own prompt.
        """
        skipped = 0 if self.include_prompt else prompt
        vectors = pool(hidden.astype(mx.float32), lengths, skipped, self.modes)
        for step in self.then:
            vectors = step(vectors)
        return normalized(vectors)


def normalized(vectors: mx.array) -> mx.array:
    return vectors / mx.maximum(mx.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def pool(hidden: mx.array, lengths: mx.array, skipped: int, modes: tuple[str, ...]) -> mx.array:
    """One vector per row from the states of its tokens after the first `skipped`; several modes are concatenated."""
    first = mx.minimum(skipped, lengths - 1)[:, None]
    last = lengths[:, None] - 1
    positions = mx.arange(hidden.shape[1])[None]
    counts = ((positions >= first) & (positions <= last)).astype(mx.float32)[..., None]

    def mean(weights: mx.array) -> mx.array:
        return (hidden * weights).sum(axis=1) / weights.sum(axis=1)

    def at(index: mx.array) -> mx.array:
        return mx.take_along_axis(hidden, index[..., None], axis=1)[:, 0]

    poolings: dict[str, Callable[[], mx.array]] = {
        "cls": lambda: at(first),
        "max": lambda: mx.where(counts > 0, hidden, -mx.inf).max(axis=1),
        "mean": lambda: mean(counts),
        "mean_sqrt_len_tokens": lambda: mean(counts) * mx.sqrt(counts.sum(axis=1)),
        # Later tokens have seen more and get a larger weight.
        "weightedmean": lambda: mean(counts * (positions[..., None] + 1)),
        "lasttoken": lambda: at(last),
    }
    return mx.concatenate([poolings[mode]() for mode in modes], axis=-1)


def read_head(folder: Path) -> SentenceHead:
    """The modules after the transformer in modules.json; the mean without that file."""
    listing = folder / "modules.json"
    if not listing.exists():
        return SentenceHead()
    kinds = [(_kind(listing, entry), entry) for entry in _entries(listing)]
    names = [kind for kind, _ in kinds]
    if names[:2] != ["Transformer", "Pooling"] or {"Transformer", "Pooling"} & set(names[2:]):
        raise EmbeddingError(
            f"{listing} lists {', '.join(names)}; supported are Transformer, Pooling, then Dense and Normalize"
        )
    pooling = PoolingConfig.from_file(_folder(listing, kinds[1][1]) / "config.json")
    then = [
        normalized if kind == "Normalize" else _dense(_folder(listing, entry)) for kind, entry in kinds[2:]
    ]
    return SentenceHead(pooling.modes, pooling.include_prompt, tuple(then))


def _entries(listing: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(listing.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EmbeddingError(f"{listing} cannot be read: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise EmbeddingError(f"{listing} is not a list of modules")
    return entries


def _kind(listing: Path, entry: dict[str, Any]) -> str:
    """The class name of a module. Its package has changed between versions, its name has not."""
    full = str(entry.get("type"))
    kind = full.rsplit(".", 1)[-1]
    if not full.startswith("sentence_transformers.") or kind not in MODULES:
        raise EmbeddingError(f"{listing} lists the module {full}; supported are {', '.join(MODULES)}")
    return kind


def _folder(listing: Path, entry: dict[str, Any]) -> Path:
    path = str(entry.get("path", ""))
    if not re.fullmatch(r"\w[\w.-]*", path):
        raise EmbeddingError(
            f"{listing} lists a module in {path!r}, which is not a folder of this checkpoint"
        )
    return listing.parent / path


def _dense(folder: Path) -> Dense:
    config = DenseConfig.from_dict(read_json(folder / "config.json"))
    names = {config.module_input_name, config.module_output_name or config.module_input_name}
    if names != {"sentence_embedding"} or config.use_residual:
        raise EmbeddingError(
            f"{folder} is a projection of {', '.join(sorted(names))}"
            + (" with a residual" if config.use_residual else "")
            + "; plain ones of sentence_embedding are supported"
        )
    if config.activation_function not in ACTIVATIONS:
        raise EmbeddingError(
            f"{folder} has the activation {config.activation_function}; supported are {', '.join(ACTIVATIONS)}"
        )
    weights = folder / "model.safetensors"
    if not weights.exists():
        raise EmbeddingError(f"{weights} is missing; weights in other formats are not read")
    dense = Dense(config)
    load_component(dense, [Shard(weights)], dtype=mx.float32)
    return dense
