"""The text network of Qwen3-VL: positions over three axes, and what the tower has seen is added to the first layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models import qwen3
from mlx_lm.models import qwen3_vl as base
from mlx_lm.models.base import create_attention_mask

from models.language.corrections.sections import Sections, positions_of_rows


@dataclass
class ModelArgs(base.ModelArgs):
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        # transformers 5 writes it beside text_config.
        self.text_config.setdefault("tie_word_embeddings", self.tie_word_embeddings)


class TextModel(qwen3.Qwen3Model):
    def __call__(
        self,
        inputs: mx.array,
        cache: Any = None,
        input_embeddings: mx.array | None = None,
        deepstack: Sequence[mx.array] = (),
    ) -> mx.array:
        h = self.embed_tokens(inputs) if input_embeddings is None else input_embeddings
        caches = cache or [None] * len(self.layers)
        mask = create_attention_mask(h, caches[0])
        for index, (layer, layer_cache) in enumerate(zip(self.layers, caches, strict=True)):
            h = layer(h, mask, layer_cache)
            if index < len(deepstack):
                h = h + deepstack[index]
        normed: mx.array = self.norm(h)
        return normed


class Model(base.Model):
    sections = Sections((24, 20, 20), interleaved=True)

    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        self.language_model.model.__class__ = TextModel

    def __call__(
        self,
        inputs: mx.array,
        cache: Any = None,
        input_embeddings: mx.array | None = None,
        positions: mx.array | None = None,
        deepstack: Sequence[mx.array] = (),
    ) -> mx.array:
        text = self.language_model
        with positions_of_rows(positions):
            h = text.model(inputs, cache, input_embeddings, deepstack)
        tied = text.args.tie_word_embeddings
        logits: mx.array = text.model.embed_tokens.as_linear(h) if tied else text.lm_head(h)
        return logits
