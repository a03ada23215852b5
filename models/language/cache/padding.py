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
    """Its scores have an additional axis: the query heads that share a key head; and blocks are attended to by their cache."""

    def __call__(self, x: mx.array, mask: mx.array | None = None, cache: Any = None) -> mx.array:
        if hasattr(cache, "attend"):
            return self._over_blocks(x, mask, cache)
        if mask is not None and mask.ndim == 4 and self.repeats > 1:
            mask = mask[:, :, None]
        return super().__call__(x, mask, cache)

    def _over_blocks(self, x: mx.array, mask: Any, cache: Any) -> mx.array:
        rows, length, _ = x.shape
        projected = (
            (self.q_proj, self.n_heads),
            (self.k_proj, self.n_kv_heads),
            (self.v_proj, self.n_kv_heads),
        )
        queries, keys, values = (
            layer(x).reshape(rows, length, heads, -1).transpose(0, 2, 1, 3) for layer, heads in projected
        )
        cache.update_and_fetch(self.rope(keys, offset=cache.offset), values)
        queries = self.rope(queries, offset=cache.offset)
        out = cache.attend(queries, self.scale, mask, softcap=self.attn_logit_softcapping)
        projection: mx.array = self.o_proj(out.transpose(0, 2, 1, 3).reshape(rows, length, -1))
        return projection
