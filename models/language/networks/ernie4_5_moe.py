"""ERNIE 4.5 MoE: a correction bias affects which experts are chosen, but not their weights."""

import mlx.core as mx
from mlx_lm.models import ernie4_5_moe as base

from models.language.networks.experts import Weights

ModelArgs = base.ModelArgs
CORRECTION = ".moe_statics.e_score_correction_bias"


class Experts(base.Ernie4_5_MoeMLP):
    def __call__(self, x: mx.array) -> mx.array:
        gates = self.gate_act(self.gate(x).astype(mx.float32))
        ranked = mx.argpartition(-(gates + self.correction), kth=self.k - 1, axis=-1)
        chosen = mx.stop_gradient(ranked[..., : self.k])
        scores = mx.take_along_axis(gates, chosen, axis=-1)
        scores = scores / mx.maximum(scores.sum(axis=-1, keepdims=True), 1e-12)
        y = self.switch_mlp(x, chosen)
        y = (y * scores[..., None]).sum(axis=-2).astype(y.dtype)
        return y if self.shared_experts is None else y + self.shared_experts(x)


class Model(base.Model):
    def __init__(self, args: base.ModelArgs) -> None:
        super().__init__(args)
        for module in self.modules():
            if type(module) is base.Ernie4_5_MoeMLP:
                module.__class__ = Experts
                module.correction = mx.zeros((args.moe_num_experts,))

    def sanitize(self, weights: Weights) -> Weights:
        corrections = {
            key.replace(CORRECTION, ".correction"): value.reshape(-1)
            for key, value in weights.items()
            if key.endswith((CORRECTION, ".correction"))
        }
        for layer, block in enumerate(self.layers):
            if type(block.mlp) is Experts:  # files without a correction: zero
                corrections.setdefault(f"model.layers.{layer}.mlp.correction", block.mlp.correction)
        sanitized: Weights = super().sanitize(weights)
        return sanitized | corrections
