"""OLMo as transformers stores it: Llama with norms without weights, and clipped queries, keys and values.

mlx-lm's network of that name is for files of the package ai2-olmo.
"""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import llama as base
from mlx_lm.models.base import scaled_dot_product_attention

from models.language.networks.attention import merge_heads, split_heads

NORM_EPS = 1e-5  # not in any configuration


@dataclass
class ModelArgs(base.ModelArgs):
    clip_qkv: float | None = None


class Attention(base.Attention):
    clip: float | None = None

    def __call__(self, x: mx.array, mask: Any = None, cache: Any = None) -> mx.array:
        offset = 0 if cache is None else cache.offset
        q = self.rope(self._heads(self.q_proj(x), self.n_heads), offset=offset)
        k = self.rope(self._heads(self.k_proj(x), self.n_kv_heads), offset=offset)
        v = self._heads(self.v_proj(x), self.n_kv_heads)
        if cache is not None:
            k, v = cache.update_and_fetch(k, v)
        out = scaled_dot_product_attention(q, k, v, cache=cache, scale=self.scale, mask=mask)
        projected: mx.array = self.o_proj(merge_heads(out))
        return projected

    def _heads(self, values: mx.array, count: int) -> mx.array:
        if self.clip is not None:
            values = mx.clip(values, -self.clip, self.clip)
        return split_heads(values, count)


class Model(base.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)

        def norm() -> nn.LayerNorm:
            return nn.LayerNorm(args.hidden_size, eps=NORM_EPS, affine=False)

        self.model.norm = norm()
        for layer in self.layers:
            layer.input_layernorm, layer.post_attention_layernorm = norm(), norm()
            layer.self_attn.__class__ = Attention
            layer.self_attn.clip = args.clip_qkv
