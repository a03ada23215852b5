"""Text embeddings: a language model's last hidden states, pooled as its checkpoint specifies."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from models.config import Config, read_json
from models.language.distributed.coordinator import Embed, Ranks
from models.language.embedding.sentence_transformers import EmbeddingError, read_head

WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")


@dataclass(frozen=True)
class InputConfig(Config):
    """sentence_bert_config.json"""

    max_seq_length: int | None = None
    do_lower_case: bool = False


@dataclass(frozen=True)
class PromptConfig(Config):
    """config_sentence_transformers.json"""

    prompts: dict[str, str | None] = field(default_factory=dict)
    default_prompt_name: str | None = None

    @property
    def default_prompt(self) -> str:
        if self.default_prompt_name is None:
            return ""
        if self.default_prompt_name not in self.prompts:
            raise EmbeddingError(
                f"the checkpoint's default_prompt_name {self.default_prompt_name!r} is not one of its prompts: "
                f"{', '.join(self.prompts)}"
            )
        return self.prompts[self.default_prompt_name] or ""


class Embedder:
    """Created and used on the GPU thread, except `tokens`, which any thread may call.

    Texts are right-padded, which does not affect causal models.
    """

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
        self._vocab_size = _number(model, config, "vocab_size")
        self._head = read_head(folder)
        self._token_budget = token_budget
        self._tokenizer = tokenizer
        self._input = InputConfig.from_dict(_optional(folder / "sentence_bert_config.json"))
        prompts = PromptConfig.from_dict(_optional(folder / "config_sentence_transformers.json"))
        self._prompt = prompts.default_prompt
        self._prompt_tokens = self._count_prompt()

    @property
    def max_tokens(self) -> int | None:
        """The maximum number of tokens, if the checkpoint specifies one."""
        return self._input.max_seq_length

    def tokens(self, text: str) -> list[int]:
        """The tokens of the checkpoint's default prompt and a text, with special tokens."""
        text = self._prompt + text
        return list(self._tokenizer.encode(text.lower() if self._input.do_lower_case else text))

    def embed(self, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """One vector of length 1 per text, given as tokens."""
        vectors: list[NDArray[np.float32] | None] = [None] * len(texts)
        for batch in self.steps(texts):
            for index, vector in batch.items():
                vectors[index] = vector
        return np.array(vectors, dtype=np.float32)

    def steps(self, texts: Sequence[Sequence[int]]) -> Iterator[dict[int, NDArray[np.float32]]]:
        """The same, a few texts at a time, by index: memory stays bounded, and other work can run in between."""
        for index, text in enumerate(texts):
            if not text:
                raise EmbeddingError(f"text {index} has no tokens")
            if not 0 <= min(text) <= max(text) < self._vocab_size:
                raise EmbeddingError(
                    f"text {index} has a token outside the vocabulary of {self._vocab_size} tokens"
                )
        for batch in self._batches(texts):
            yield dict(zip(batch, self.embed_batch([texts[index] for index in batch]), strict=True))

    def embed_batch(self, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """The vectors of texts that go through the network as one batch."""
        self._ranks.broadcast(Embed([list(text) for text in texts]))
        longest = max(map(len, texts))
        tokens = mx.array([[*text, *[0] * (longest - len(text))] for text in texts])
        lengths = mx.array([len(text) for text in texts])
        return np.array(self._head(self._hidden(tokens), lengths, self._prompt_tokens))

    def _batches(self, texts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Batches of texts of similar length, each within the token budget including padding."""
        batch: list[int] = []
        for index in sorted(range(len(texts)), key=lambda index: len(texts[index])):
            if batch and (len(batch) + 1) * len(texts[index]) > self._token_budget:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _count_prompt(self) -> int:
        """The number of tokens of the prompt, without those the tokenizer appends to every text."""
        if not self._prompt:
            return 0
        tokens = self.tokens("")
        ends = set(getattr(self._tokenizer, "all_special_ids", ()))
        return len(tokens) - (tokens[-1] in ends)


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


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}
