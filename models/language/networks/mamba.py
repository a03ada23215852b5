"""Mamba and Falcon Mamba with the epsilon of their norms from config.json."""

from dataclasses import dataclass

from mlx_lm.models import mamba as base

from models.language.networks.norms import set_epsilon


@dataclass
class ModelArgs(base.ModelArgs):
    layer_norm_epsilon: float = 1e-5


class Model(base.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        set_epsilon(self, args.layer_norm_epsilon)
