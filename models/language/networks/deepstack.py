"""What the text networks of Qwen3-VL share: features of a tower's earlier blocks are added after the first layers."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.base import create_attention_mask

from models.language.corrections.sections import Sections, positions_of_rows


class DeepStack:
    """Of a network inside another, as `language_model`."""

    sections = Sections((24, 20, 20), interleaved=True)
    language_model: Any

    def __call__(
        self,
        inputs: mx.array,
        cache: Any = None,
        input_embeddings: mx.array | None = None,
        positions: mx.array | None = None,
        deepstack: Sequence[mx.array] = (),
    ) -> mx.array:
        """`positions` [token, 3]; `deepstack`: of the first layers, each [row, token, hidden]."""
        text = self.language_model
        h = text.model.embed_tokens(inputs) if input_embeddings is None else input_embeddings
        caches = cache or [None] * len(text.layers)
        mask = create_attention_mask(h, caches[0])
        with positions_of_rows(positions):
            for index, (layer, layer_cache) in enumerate(zip(text.layers, caches, strict=True)):
                h = layer(h, mask, layer_cache)
                if index < len(deepstack):
                    h = h + deepstack[index]
        h = text.model.norm(h)
        tied = text.args.tie_word_embeddings
        logits: mx.array = text.model.embed_tokens.as_linear(h) if tied else text.lm_head(h)
        return logits
