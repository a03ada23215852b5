"""MiniCPM3 with scaled logits for a tied head too, and with the epsilon of its latent norms."""

from typing import Any

import mlx.core as mx
from mlx_lm.models import minicpm3 as base
from mlx_lm.models.minicpm3 import ModelArgs

from models.language.networks.norms import set_latent_epsilon

__all__ = ["Model", "ModelArgs"]


class Model(base.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        set_latent_epsilon(self)

    def __call__(self, inputs: mx.array, mask: Any = None, cache: Any = None) -> mx.array:
        logits: mx.array = super().__call__(inputs, mask, cache)
        tied = self.args.tie_word_embeddings
        return logits * (self.args.dim_model_base / self.args.hidden_size) if tied else logits
