"""The text model of Qwen3.5, saved without its vision model; mlx-lm only has it as a part of the whole."""

from mlx_lm.models.qwen3_5 import TextModel
from mlx_lm.models.qwen3_5 import TextModelArgs as ModelArgs

from models.language.networks.experts import Weights, split_experts, stack_experts

__all__ = ["Model", "ModelArgs"]


class Model(TextModel):
    def sanitize(self, weights: Weights) -> Weights:
        experts = ("mlp.experts", "mlp.switch_mlp")
        sanitized: Weights = super().sanitize(split_experts(stack_experts(weights, *experts), *experts))
        return sanitized
