"""Falcon H1 with the multipliers of keys and values folded into their weights, as mlx-lm does with all others."""

from mlx_lm.models import falcon_h1 as base

from models.language.networks.experts import Weights

ModelArgs = base.ModelArgs


class Model(base.Model):
    def sanitize(self, weights: Weights) -> Weights:
        sanitized: Weights = super().sanitize(weights)
        if sanitized is weights:  # stored with all multipliers folded in
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
