"""Qwen3.5 MoE with separately stored experts, as transformers 5 writes them."""

from mlx_lm.models import qwen3_5_moe as base
from mlx_lm.models.qwen3_5_moe import ModelArgs

from models.language.networks.experts import Weights, stack_experts

__all__ = ["Model", "ModelArgs"]


class Model(base.Model):
    def sanitize(self, weights: Weights) -> Weights:
        sanitized: Weights = super().sanitize(stack_experts(weights, "mlp.experts", "mlp.switch_mlp"))
        return sanitized
