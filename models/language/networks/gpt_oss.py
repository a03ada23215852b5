"""gpt-oss with floating-point experts as transformers stores them: one array for all, inputs before outputs."""

import mlx.core as mx
from mlx_lm.models import gpt_oss as base

from models.language.networks.experts import Weights

ModelArgs = base.ModelArgs
UNPACKED = (".experts.gate_up_proj", ".experts.down_proj")


class Model(base.Model):
    def sanitize(self, weights: Weights) -> Weights:
        for key in [key for key in weights if key.endswith(UNPACKED)]:
            rows = weights.pop(key).swapaxes(-1, -2)
            path = key.rpartition(".")[0]
            if key.endswith("down_proj"):
                weights[f"{path}.down_proj.weight"] = rows
            else:  # gate and up are interleaved
                weights[f"{path}.gate_proj.weight"] = mx.contiguous(rows[:, ::2])
                weights[f"{path}.up_proj.weight"] = mx.contiguous(rows[:, 1::2])
        biases = {
            key: value
            for key, value in weights.items()
            if key.endswith(("gate_up_proj_bias", "down_proj_bias"))
        }
        if any(key.endswith("gate_up_proj_bias") for key in biases):
            for key in biases:
                del weights[key]
            weights |= base.Model.sanitize(self, biases)
        sanitized: Weights = super().sanitize(weights)
        return sanitized
