"""Prompts of different lengths in one batch: which of mlx-lm's networks mask padding, and a fix for one that cannot."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import cache as mlx_cache
from mlx_lm.models import gemma2

from models.language.cache.kv_cache import Cache

# Recurrent layers process padding like any token unless their network masks it. These networks do (tested with mlx-lm
# 0.32.2); mamba, jamba and recurrent_gemma, among others, do not.
MASKED_RECURRENT = frozenset(
    ("falcon_h1", "granitemoehybrid", "lfm2", "lfm2_moe", "mamba2", "qwen3_5", "qwen3_5_moe", "qwen3_next")
)


def masks_padding(model: nn.Module, cache: Cache) -> bool:
    """Whether prompts padded to one length give the same results as each prompt alone."""
    return getattr(model, "model_type", None) in MASKED_RECURRENT or not any(map(_recurrent, cache))


def _recurrent(layer: Any) -> bool:
    if isinstance(layer, mlx_cache.CacheList):
        return any(map(_recurrent, layer.caches))
    return isinstance(layer, mlx_cache.ArraysCache)


def patch_batch_mask(model: nn.Module) -> None:
    """Replace attention that does not accept the mask of a batch."""
    for module in model.modules():
        if type(module) is gemma2.Attention:
            module.__class__ = _Gemma2Attention


class _Gemma2Attention(gemma2.Attention):
    """Its scores have an additional axis: the query heads that share a key head."""

    def __call__(self, x: mx.array, mask: mx.array | None = None, cache: Any = None) -> mx.array:
        if mask is not None and mask.ndim == 4 and self.repeats > 1:
            mask = mask[:, :, None]
        return super().__call__(x, mask, cache)
