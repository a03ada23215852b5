"""The text network of Qwen2.5-VL, which takes positions over three axes."""

from typing import Any

import mlx.core as mx
from mlx_lm.models import qwen2_vl as base

from models.language.corrections.sections import Sections, positions_of_rows

ModelArgs = base.ModelArgs


class Model(base.Model):
    sections = Sections((16, 24, 24), interleaved=False)

    def __call__(
        self,
        inputs: mx.array,
        cache: Any = None,
        input_embeddings: mx.array | None = None,
        positions: mx.array | None = None,
    ) -> mx.array:
        with positions_of_rows(positions):
            logits: mx.array = super().__call__(inputs, cache, input_embeddings)
        return logits
