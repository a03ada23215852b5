"""Muse Glimmer without the weights of its vision towers, which transformers stores under other names."""

from mlx_lm.models import muse_glimmer as base

from models.language.networks.experts import Weights

ModelArgs = base.ModelArgs
TOWERS = ("model.vision_tower.", "model.vision_adapter.", "model.vision_projection.")


class Model(base.Model):
    def sanitize(self, weights: Weights) -> Weights:
        text = {key: value for key, value in weights.items() if not key.startswith(TOWERS)}
        sanitized: Weights = super().sanitize(text)
        return sanitized
