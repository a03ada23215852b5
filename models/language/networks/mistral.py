"""Mistral: Llama with the same sliding window in all layers, whatever `layer_types` says."""

from mlx_lm.models import llama as base
from mlx_lm.models.llama import ModelArgs

__all__ = ["Model", "ModelArgs"]


class Model(base.Model):
    slides_by_config = True
