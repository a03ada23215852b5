"""Mamba and Falcon Mamba: norms take the epsilon that config.json states."""

from dataclasses import dataclass

import mlx.nn as nn
from mlx_lm.models import mamba as base


@dataclass
class ModelArgs(base.ModelArgs):
    layer_norm_epsilon: float = 1e-5


class Model(base.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        for module in self.modules():
            if isinstance(module, nn.RMSNorm):
                module.eps = args.layer_norm_epsilon
