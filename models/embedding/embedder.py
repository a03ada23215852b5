"""Text embeddings from token ids: what decoders and encoders have in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.config import Config, read_json
from models.embedding.batches import batches
from models.embedding.sentence_transformers import EmbeddingError, read_head

Vectors = NDArray[np.float32]


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


class TextEmbedder(ABC):
    """Created and used on the GPU thread, except `tokens`, which any thread may call."""

    equal_lengths = False  # of the texts in a batch

    def __init__(self, folder: Path, tokenizer: Any, vocab_size: int, token_budget: int) -> None:
        self._vocab_size = vocab_size
        self._head = read_head(folder)
        self._token_budget = token_budget
        self._tokenizer = tokenizer
        self._input = InputConfig.from_dict(_optional(folder / "sentence_bert_config.json"))
        prompts = PromptConfig.from_dict(_optional(folder / "config_sentence_transformers.json"))
        self._prompt = prompts.default_prompt
        self.prompts = {name: text or "" for name, text in prompts.prompts.items()}
        self._prompt_tokens = self._count_prompt(self._prompt)

    @property
    def max_tokens(self) -> int | None:
        """The maximum number of tokens, if the checkpoint specifies one."""
        return self._input.max_seq_length

    def tokens(self, text: str, prompt: str | None = None) -> list[int]:
        """The tokens of a prompt of the checkpoint, by its name, and a text, with special tokens. None: the default prompt."""
        text = (self._prompt if prompt is None else self.prompts[prompt]) + text
        return list(self._tokenizer.encode(text.lower() if self._input.do_lower_case else text))

    def embed(self, texts: Sequence[Sequence[int]]) -> Vectors:
        """One vector of length 1 per text, given as tokens."""
        vectors: list[Vectors | None] = [None] * len(texts)
        for batch in self.steps(texts):
            for index, vector in batch.items():
                vectors[index] = vector
        return np.array(vectors, dtype=np.float32)

    def steps(
        self, texts: Sequence[Sequence[int]], prompt: str | None = None
    ) -> Iterator[dict[int, Vectors]]:
        """The same, a few texts at a time, by index: memory stays bounded, and other work can run in between. `prompt`: the
        name of the one that all of them begin with."""
        skipped = self._prompt_tokens if prompt is None else self._count_prompt(self.prompts[prompt])
        for index, text in enumerate(texts):
            if not text:
                raise EmbeddingError(f"text {index} has no tokens")
            if not 0 <= min(text) <= max(text) < self._vocab_size:
                raise EmbeddingError(
                    f"text {index} has a token outside the vocabulary of {self._vocab_size} tokens"
                )
        for batch in batches(list(map(len, texts)), self._token_budget, equal=self.equal_lengths):
            yield dict(zip(batch, self.embed_batch([texts[index] for index in batch], skipped), strict=True))

    @abstractmethod
    def embed_batch(self, texts: Sequence[Sequence[int]], prompt_tokens: int) -> Vectors:
        """The vectors of texts that go through the network as one batch; each begins with so many tokens of a prompt."""

    def _count_prompt(self, prompt: str) -> int:
        """The number of tokens of a prompt, without those the tokenizer appends to every text."""
        if not prompt:
            return 0
        tokens = list(self._tokenizer.encode(prompt.lower() if self._input.do_lower_case else prompt))
        ends = set(getattr(self._tokenizer, "all_special_ids", ()))
        return len(tokens) - (tokens[-1] in ends)


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}
