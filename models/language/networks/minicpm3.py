"""MiniCPM3 with logits scaled by a tied head too, and with the epsilon of its latent norms."""

from typing import Any

import mlx.core as mx
from mlx_lm.models import minicpm3 as base
from mlx_lm.models.minicpm3 import ModelArgs

__all__ = ["Model", "ModelArgs"]

LATENT_EPS = 1e-6  # of no configuration


class Model(base.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        for layer in self.layers:
            layer.self_attn.q_a_layernorm.eps = layer.self_attn.kv_a_layernorm.eps = LATENT_EPS

    def __call__(self, inputs: mx.array, mask: Any = None, cache: Any = None) -> mx.array:
        logits: mx.array = super().__call__(inputs, mask, cache)
        tied = self.args.tie_word_embeddings
        return logits * (self.args.dim_model_base / self.args.hidden_size) if tied else logits
