"""Qwen3-VL with experts: both orders in which their weights are stored, and no head where there is none."""

import mlx.core as mx
from mlx_lm.models import qwen3_vl_moe as base

ModelArgs = base.ModelArgs
HEADS = ("lm_head.weight", "language_model.lm_head.weight")


class Model(base.Model):
    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        args = self.language_model.args
        rows = {
            ".experts.gate_up_proj": 2 * args.moe_intermediate_size,
            ".experts.down_proj": args.hidden_size,
        }
        for key, value in weights.items():
            for ending, outputs in rows.items():
                if key.endswith(ending) and value.shape[-2] == outputs != value.shape[-1]:
                    weights[key] = value.swapaxes(
                        -2, -1
                    )  # outputs before inputs, as transformers 5 writes them
        if any(head in weights for head in HEADS):
            whole: dict[str, mx.array] = super().sanitize(weights)
            return whole
        tied = dict(weights)
        tied["lm_head.weight" if "model.language_model.norm.weight" in weights else HEADS[1]] = mx.zeros((1,))
        return {key: value for key, value in super().sanitize(tied).items() if key not in HEADS}
