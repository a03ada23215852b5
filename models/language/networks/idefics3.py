"""The text network of Idefics 3 and SmolVLM, which is Llama's."""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import llama
from mlx_lm.models.base import BaseModelArgs

OTHERS = ("model.vision_model.", "model.connector.", "vision_model.", "connector.")


@dataclass
class ModelArgs(BaseModelArgs):
    model_type: str
    text_config: dict[str, Any]
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        kind = self.text_config.setdefault("model_type", "llama")
        if kind != "llama":
            raise ValueError(f"model_type of text_config is {kind!r}; only 'llama' is supported")
        self.text_config.setdefault("tie_word_embeddings", self.tie_word_embeddings)


class Model(nn.Module):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.args = args
        self.model_type = args.model_type
        self.language_model = llama.Model(llama.ModelArgs.from_dict(args.text_config))

    def __call__(
        self, inputs: mx.array, cache: Any = None, input_embeddings: mx.array | None = None
    ) -> mx.array:
        logits: mx.array = self.language_model(inputs, cache=cache, input_embeddings=input_embeddings)
        return logits

    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        text = {_name(name): value for name, value in weights.items() if not name.startswith(OTHERS)}
        return {f"language_model.{name}": value for name, value in self.language_model.sanitize(text).items()}

    @property
    def layers(self) -> list[nn.Module]:
        layers: list[nn.Module] = self.language_model.model.layers
        return layers


def _name(name: str) -> str:
    """Files of MLX-VLM have the head inside the language model."""
    for prefix in ("model.text_model.", "text_model.", "language_model.model.", "language_model."):
        if name.startswith(prefix):
            inner = name.removeprefix(prefix)
            return inner if inner.startswith("lm_head.") else f"model.{inner}"
    return name
