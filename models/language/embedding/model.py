"""Text embeddings: a language model's last hidden states, pooled as its checkpoint specifies."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from models.config import ConfigError, read_json
from models.embedding.embedder import TextEmbedder
from models.embedding.sentence_transformers import EmbeddingError
from models.language.distributed.coordinator import Embed, Ranks

# In a batch, which all other work of the model waits for.
TOKENS = 2048
WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")


class Embedder(TextEmbedder):
    """A language model's embeddings. Texts are right-padded, which does not affect causal models."""

    def __init__(
        self,
        model: nn.Module,
        folder: Path,
        tokenizer: Any,
        token_budget: int = 8192,
        ranks: Ranks | None = None,
    ) -> None:
        self._ranks = ranks or Ranks()
        config = read_json(folder / "config.json")
        inner = config.get("text_config")
        config = {**config, **inner} if isinstance(inner, dict) else config
        _check_causal(config)
        self._hidden = hidden_states(model, config)
        super().__init__(folder, tokenizer, _number(model, config, "vocab_size"), token_budget)

    def embed_batch(self, texts: Sequence[Sequence[int]], prompt_tokens: int) -> NDArray[np.float32]:
        self._ranks.broadcast(Embed([list(text) for text in texts]))
        longest = max(map(len, texts))
        tokens = mx.array([[*text, *[0] * (longest - len(text))] for text in texts])
        lengths = mx.array([len(text) for text in texts])
        return np.array(self._head(self._hidden(tokens), lengths, prompt_tokens))


def embedder_of(
    model: nn.Module, folder: Path, tokenizer: Any, ranks: Ranks, token_budget: int = TOKENS
) -> Embedder | EmbeddingError:
    """The model's embedder, or why it does not support embeddings."""
    try:
        return Embedder(model, folder, tokenizer, token_budget, ranks)
    except (EmbeddingError, ConfigError) as error:
        return error if isinstance(error, EmbeddingError) else EmbeddingError(str(error))


def hidden_states(model: nn.Module, config: Mapping[str, Any]) -> Callable[[mx.array], mx.array]:
    """The part of a model that computes the last hidden states, after the final norm and before the head."""
    root = _text_part(model)
    parts = (getattr(root, name, None) for name in ("model", "backbone", "transformer"))
    inner = next((part for part in parts if part), None)
    kind = config.get("model_type", type(model).__module__)
    width = _number(model, config, *WIDTHS)
    if not callable(inner):
        raise EmbeddingError(
            f"this model ({kind}) does not support embeddings: its hidden states are not accessible"
        )
    try:
        # Lazy: the shape is known without computing anything.
        shape = inner(mx.array([[0, 0]])).shape
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise EmbeddingError(
            f"this model ({kind}) does not support embeddings: no hidden states from tokens alone: {error}"
        ) from error
    if shape != (1, 2, width):
        raise EmbeddingError(
            f"this model ({kind}) does not support embeddings: hidden states of two tokens have the shape {shape}, "
            f"expected {(1, 2, width)}"
        )
    return inner


def _text_part(model: nn.Module) -> nn.Module:
    while isinstance(getattr(model, "language_model", None), nn.Module):
        model = model.language_model
    return model


def _number(model: nn.Module, config: Mapping[str, Any], *names: str) -> int:
    """A dimension by any of its names: from the model's arguments, which include defaults, else from its config."""
    args = getattr(_text_part(model), "args", None)
    for name in names:
        for value in (getattr(args, name, None), config.get(name)):
            if isinstance(value, int):
                return value
    raise EmbeddingError(f"this model's config.json does not have {' or '.join(names)}")


def _check_causal(config: Mapping[str, Any]) -> None:
    """Diptych's language models are causal; a checkpoint trained with bidirectional attention would give wrong vectors."""
    bidirectional = [
        f"{key} {config.get(key)!r}"
        for key, values in {"use_bidirectional_attention": (True, "all"), "is_causal": (False,)}.items()
        if config.get(key) in values and key in config
    ]
    bidirectional += [
        f"the architecture {name}" for name in config.get("architectures") or () if "idirectional" in name
    ]
    if bidirectional:
        raise EmbeddingError(
            f"this model does not support embeddings: it needs bidirectional attention (its config.json has "
            f"{', '.join(bidirectional)}), which Diptych's language models do not have"
        )
