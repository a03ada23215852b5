"""OLMo Hybrid with the names of its norms in the files."""

from mlx_lm.models import olmo_hybrid as base
from mlx_lm.models.olmo_hybrid import ModelArgs

from models.language.networks.experts import Weights

__all__ = ["Model", "ModelArgs"]

# Of layers with linear attention, and of the others.
NAMES = {
    "attention_layer_norm": "input_layernorm",
    "feedforward_layer_norm": "post_attention_layernorm",
}


class Model(base.Model):
    def sanitize(self, weights: Weights) -> Weights:
        renamed: Weights = {}
        for name, value in weights.items():
            for stored, own in NAMES.items():
                name = name.replace(f".{stored}.", f".{own}.")
            renamed[name] = value
        sanitized: Weights = super().sanitize(renamed)
        return sanitized
