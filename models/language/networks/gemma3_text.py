"""Gemma 3 with sliding layers from `layer_types`, and embeddings scaled in their own precision."""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models import gemma3_text as base


@dataclass
class ModelArgs(base.ModelArgs):
    num_hidden_layers: int = 26
    sliding_window_pattern: int = 6
    layer_types: list[str] | None = None

    def __post_init__(self) -> None:
        # mlx-lm uses the layer at this index of each pattern: it must exist.
        self.sliding_window_pattern = min(self.sliding_window_pattern, self.num_hidden_layers)


class TextModel(base.Gemma3Model):
    """Layers make their own masks."""

    def __call__(
        self, inputs: mx.array, cache: Any = None, input_embeddings: mx.array | None = None
    ) -> mx.array:
        h = self.embed_tokens(inputs) if input_embeddings is None else input_embeddings
        h = h * mx.array(self.args.hidden_size**0.5).astype(h.dtype)
        for layer, layer_cache in zip(self.layers, cache or [None] * len(self.layers), strict=True):
            h = layer(h, None, layer_cache)
        normed: mx.array = self.norm(h)
        return normed


class Model(base.Model):
    slides_by_config = True

    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        self.model.__class__ = TextModel
