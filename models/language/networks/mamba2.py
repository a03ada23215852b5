"""Mamba 2 with the epsilon of all its norms, and its gated norm over each group of heads."""

from mlx_lm.models import mamba2
from mlx_lm.models.mamba2 import ModelArgs

from models.language.networks.norms import norm_by_groups, set_epsilon

__all__ = ["Model", "ModelArgs"]


class Model(mamba2.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        set_epsilon(self, args.layer_norm_epsilon)
        for layer in self.layers:
            norm_by_groups(layer.mixer.norm, args.n_groups)
