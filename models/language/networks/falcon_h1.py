"""Falcon H1: the multipliers of keys and values are folded into their weights, as those of all others are."""

import mlx.core as mx
from mlx_lm.models import falcon_h1 as base

ModelArgs = base.ModelArgs


class Model(base.Model):
    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        sanitized: dict[str, mx.array] = super().sanitize(weights)
        if sanitized is weights:  # stored with all of them folded in
            return weights
        factors = {
            "self_attn.k_proj.weight": self.args.key_multiplier,
            "self_attn.v_proj.weight": self.args.attention_in_multiplier,
        }
        for key, value in sanitized.items():
            for ending, factor in factors.items():
                if key.endswith(ending):
                    sanitized[key] = value * factor
        return sanitized
