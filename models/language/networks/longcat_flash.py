"""LongCat Flash without the weights that transformers 5 stores for identity experts, which need none."""

import re

from mlx_lm.models import longcat_flash as base
from mlx_lm.models.longcat_flash import ModelArgs

from models.language.networks.experts import Weights

__all__ = ["Model", "ModelArgs"]

EXPERT = re.compile(r".*\.mlp\.experts\.(\d+)\..*")


class Model(base.Model):
    def sanitize(self, weights: Weights) -> Weights:
        sanitized: Weights = super().sanitize({k: v for k, v in weights.items() if self._is_used(k)})
        return sanitized

    def _is_used(self, name: str) -> bool:
        expert = EXPERT.fullmatch(name)
        return expert is None or int(expert.group(1)) < self.args.n_routed_experts
