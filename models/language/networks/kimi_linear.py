"""Kimi Linear with the epsilon of its latent norms, and the names that transformers 5 writes for its dense layers."""

import re

from mlx_lm.models import kimi_linear as base
from mlx_lm.models.kimi_linear import ModelArgs

from models.language.networks.experts import Weights

__all__ = ["Model", "ModelArgs"]

DENSE = re.compile(r"(.*\.)block_sparse_moe(\.(?:gate|up|down)_proj\..+)")


LATENT_EPS = 1e-6  # of no configuration


class Model(base.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        for layer in self.layers:
            if "kv_a_layernorm" in layer.self_attn:
                layer.self_attn.kv_a_layernorm.eps = LATENT_EPS

    def sanitize(self, weights: Weights) -> Weights:
        renamed = {DENSE.sub(r"\1mlp\2", name): value for name, value in weights.items()}
        sanitized: Weights = super().sanitize(renamed)
        return sanitized
