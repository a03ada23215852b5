"""Kimi Linear with the epsilon of its latent norms, and transformers 5's weight names for dense layers."""

import re

from mlx_lm.models import kimi_linear as base
from mlx_lm.models.kimi_linear import ModelArgs

from models.language.networks.experts import Weights
from models.language.networks.norms import set_latent_epsilon

__all__ = ["Model", "ModelArgs"]

DENSE = re.compile(r"(.*\.)block_sparse_moe(\.(?:gate|up|down)_proj\..+)")


class Model(base.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        set_latent_epsilon(self)

    def sanitize(self, weights: Weights) -> Weights:
        renamed = {DENSE.sub(r"\1mlp\2", name): value for name, value in weights.items()}
        sanitized: Weights = super().sanitize(renamed)
        return sanitized
