"""GLM 4.7 Flash with the epsilon of its latent norms."""

from mlx_lm.models import glm4_moe_lite as base
from mlx_lm.models.glm4_moe_lite import ModelArgs

from models.language.networks.norms import set_latent_epsilon

__all__ = ["Model", "ModelArgs"]


class Model(base.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        set_latent_epsilon(self)
