"""Qwen2-MoE with `norm_topk_prob`: the chosen experts' shares add up to one where the configuration says so."""

from dataclasses import dataclass

import mlx.core as mx
from mlx_lm.models import qwen2_moe


@dataclass
class ModelArgs(qwen2_moe.ModelArgs):
    norm_topk_prob: bool = False


class SparseMoeBlock(qwen2_moe.Qwen2MoeSparseMoeBlock):
    def __call__(self, x: mx.array) -> mx.array:
        shares = mx.softmax(self.gate(x), axis=-1, precise=True)
        k = self.top_k
        chosen = mx.argpartition(-shares, kth=k - 1, axis=-1)[..., :k]
        weights = mx.take_along_axis(shares, chosen, axis=-1)
        weights = weights / weights.sum(axis=-1, keepdims=True)
        y = (self.switch_mlp(x, chosen) * weights[..., None]).sum(axis=-2)
        return y + mx.sigmoid(self.shared_expert_gate(x)) * self.shared_expert(x)


class Model(qwen2_moe.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        for layer in self.layers:
            if args.norm_topk_prob:
                layer.mlp.__class__ = SparseMoeBlock
