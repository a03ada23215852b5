"""gpt-oss with experts in floating point, as transformers writes them: one array for all, inputs before outputs."""

import mlx.core as mx
from mlx_lm.models import gpt_oss as base

ModelArgs = base.ModelArgs
UNPACKED = (".experts.gate_up_proj", ".experts.down_proj")


class Model(base.Model):
    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        for key in [key for key in weights if key.endswith(UNPACKED)]:
            rows = weights.pop(key).swapaxes(-1, -2)
            place = f"{key.rpartition('.')[0]}"
            if key.endswith("down_proj"):
                weights[f"{place}.down_proj.weight"] = rows
            else:  # gate and up take turns
                weights[f"{place}.gate_proj.weight"] = mx.contiguous(rows[:, ::2])
                weights[f"{place}.up_proj.weight"] = mx.contiguous(rows[:, 1::2])
        biases = {
            key: value
            for key, value in weights.items()
            if key.endswith(("gate_up_proj_bias", "down_proj_bias"))
        }
        if any(key.endswith("gate_up_proj_bias") for key in biases):
            for key in biases:
                del weights[key]
            weights |= base.Model.sanitize(self, biases)
        sanitized: dict[str, mx.array] = super().sanitize(weights)
        return sanitized
