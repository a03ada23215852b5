"""Granite 4 with its gated norm over each group of heads; mlx-lm treats them as one group."""

from mlx_lm.models import granitemoehybrid
from mlx_lm.models.granitemoehybrid import ModelArgs

from models.language.networks.norms import norm_by_groups

__all__ = ["Model", "ModelArgs"]


class Model(granitemoehybrid.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        for layer in self.layers:
            if layer.layer_type == "mamba":
                norm_by_groups(layer.mamba.norm, args.mamba_n_groups)
