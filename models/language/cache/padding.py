"""Prompts of unequal lengths side by side: which of mlx-lm's networks leave padding out, and what helps one to."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import cache as mlx_cache
from mlx_lm.models import gemma2

from models.language.cache.kv_cache import Cache

# Recurrent layers read padding like any token, unless their network masks it out. These were seen to do so (mlx-lm
# 0.32.2); of the others some do not (mamba, jamba, recurrent_gemma).
MASKED_RECURRENT = frozenset(
    ("falcon_h1", "granitemoehybrid", "lfm2", "lfm2_moe", "mamba2", "qwen3_5", "qwen3_5_moe", "qwen3_next")
)


def leaves_padding_out(model: nn.Module, cache: Cache) -> bool:
    """Whether padded prompts can go through the network together and come out as each would alone."""
    return getattr(model, "model_type", None) in MASKED_RECURRENT or not any(map(_recurrent, cache))


def _recurrent(layer: Any) -> bool:
    if isinstance(layer, mlx_cache.CacheList):
        return any(map(_recurrent, layer.caches))
    return isinstance(layer, mlx_cache.ArraysCache)


def mend(model: nn.Module) -> None:
    """Networks that trip over the mask of a batch get attention that does not."""
    for module in model.modules():
        if type(module) is gemma2.Attention:
            module.__class__ = _Gemma2Attention


class _Gemma2Attention(gemma2.Attention):
    """Its scores have an axis more than others': the query heads of each key's head."""

    def __call__(self, x: mx.array, mask: mx.array | None = None, cache: Any = None) -> mx.array:
        if mask is not None and mask.ndim == 4 and self.repeats > 1:
            mask = mask[:, :, None]
        return super().__call__(x, mask, cache)
