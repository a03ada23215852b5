"""Muse Glimmer: the weights of its towers for pictures are left out by the names that transformers writes too."""

import mlx.core as mx
from mlx_lm.models import muse_glimmer as base

ModelArgs = base.ModelArgs
TOWERS = ("model.vision_tower.", "model.vision_adapter.", "model.vision_projection.")


class Model(base.Model):
    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        text = {key: value for key, value in weights.items() if not key.startswith(TOWERS)}
        sanitized: dict[str, mx.array] = super().sanitize(text)
        return sanitized
