"""Mistral: Llama, where a window is the same for all layers and not by their types."""

from mlx_lm.models import llama as base
from mlx_lm.models.llama import ModelArgs

__all__ = ["Model", "ModelArgs"]


class Model(base.Model):
    slides_by_config = True
