"""Jamba with each expert's share as it was trained: of all experts, not of the chosen ones alone."""

import mlx.core as mx
from mlx_lm.models import jamba
from mlx_lm.models.jamba import ModelArgs

__all__ = ["Model", "ModelArgs"]


class SparseMoeBlock(jamba.JambaSparseMoeBlock):
    def __call__(self, x: mx.array) -> mx.array:
        shares = mx.softmax(self.router(x), axis=-1, precise=True)
        k = self.num_experts_per_tok
        chosen = mx.argpartition(-shares, kth=k - 1, axis=-1)[..., :k]
        weights = mx.take_along_axis(shares, chosen, axis=-1)
        y = self.switch_mlp(x, chosen)
        return (y * weights[..., None]).sum(axis=-2)


class Model(jamba.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        for layer in self.layers:
            if isinstance(layer.feed_forward, jamba.JambaSparseMoeBlock):
                layer.feed_forward.__class__ = SparseMoeBlock
