"""Qwen2-MoE with `norm_topk_prob`, which normalizes the weights of the chosen experts."""

from dataclasses import dataclass

import mlx.core as mx
from mlx_lm.models import qwen2_moe

from models.language.networks.experts import route


@dataclass
class ModelArgs(qwen2_moe.ModelArgs):
    norm_topk_prob: bool = False


class SparseMoeBlock(qwen2_moe.Qwen2MoeSparseMoeBlock):
    def __call__(self, x: mx.array) -> mx.array:
        chosen, weights = route(self.gate(x), self.top_k)
        weights = weights / weights.sum(axis=-1, keepdims=True)
        y = (self.switch_mlp(x, chosen) * weights[..., None]).sum(axis=-2)
        return y + mx.sigmoid(self.shared_expert_gate(x)) * self.shared_expert(x)


class Model(qwen2_moe.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        for layer in self.layers:
            if args.norm_topk_prob:
                layer.mlp.__class__ = SparseMoeBlock
