"""RecurrentGemma with the epsilon of all its norms, and embeddings scaled as in training."""

from typing import Any

import mlx.core as mx
from mlx_lm.models import recurrent_gemma
from mlx_lm.models.base import create_attention_mask
from mlx_lm.models.recurrent_gemma import ModelArgs

from models.language.networks.norms import set_epsilon

__all__ = ["Model", "ModelArgs"]


class Griffin(recurrent_gemma.Griffin):
    def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
        x = self.embed_tokens(tokens)
        if self.scale_by_sqrt_dim:  # rounded to bfloat16, whatever the type of the weights
            x = x * mx.array(x.shape[-1] ** 0.5, dtype=mx.bfloat16).astype(x.dtype)
        caches = [None] * len(self.layers) if cache is None else cache
        mask = create_attention_mask(x, caches[self.swa_idx], window_size=self.window_size)
        for block, own in zip(self.layers, caches, strict=True):
            x = block(x, mask=mask, cache=own)
        return self.final_norm(x)


class Model(recurrent_gemma.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        self.model.__class__ = Griffin
        set_epsilon(self, args.rms_norm_eps, recurrent_gemma.RMSNorm)
