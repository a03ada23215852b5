"""The text network of Qwen3-VL with experts, in both orders in which these are stored, and without a head if the files have none."""

from dataclasses import dataclass

import mlx.core as mx
from mlx_lm.models import qwen3_vl_moe as base

from models.language.networks.deepstack import DeepStack
from models.language.networks.experts import Weights

HEADS = ("lm_head.weight", "language_model.lm_head.weight")


@dataclass
class ModelArgs(base.ModelArgs):
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        # transformers 5 writes it beside text_config.
        self.text_config.setdefault("tie_word_embeddings", self.tie_word_embeddings)


class Model(DeepStack, base.Model):
    def sanitize(self, weights: Weights) -> Weights:
        args = self.language_model.args
        rows = {
            ".experts.gate_up_proj": 2 * args.moe_intermediate_size,
            ".experts.down_proj": args.hidden_size,
        }
        for key, value in weights.items():
            for ending, outputs in rows.items():
                if key.endswith(ending) and value.shape[-2] == outputs != value.shape[-1]:
                    # Outputs before inputs, as transformers 5 writes them.
                    weights[key] = value.swapaxes(-2, -1)
        if any(head in weights for head in HEADS):
            sanitized: Weights = super().sanitize(weights)
            return sanitized
        tied = dict(weights)
        tied["lm_head.weight" if "model.language_model.norm.weight" in weights else HEADS[1]] = mx.zeros((1,))
        return {key: value for key, value in super().sanitize(tied).items() if key not in HEADS}
