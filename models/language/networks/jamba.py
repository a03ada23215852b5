"""Jamba with the router probabilities used in training: among all experts, not among the chosen ones."""

import mlx.core as mx
from mlx_lm.models import jamba
from mlx_lm.models.jamba import ModelArgs

from models.language.networks.experts import route

__all__ = ["Model", "ModelArgs"]


class SparseMoeBlock(jamba.JambaSparseMoeBlock):
    def __call__(self, x: mx.array) -> mx.array:
        chosen, weights = route(self.router(x), self.num_experts_per_tok)
        y = self.switch_mlp(x, chosen)
        return (y * weights[..., None]).sum(axis=-2)


class Model(jamba.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        for layer in self.layers:
            if isinstance(layer.feed_forward, jamba.JambaSparseMoeBlock):
                layer.feed_forward.__class__ = SparseMoeBlock
