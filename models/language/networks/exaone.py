"""EXAONE 3 with heads that may be wider than hidden_size / num_attention_heads."""

from typing import Any

import mlx.core as mx
from mlx_lm.models import exaone as base
from mlx_lm.models.base import scaled_dot_product_attention

from models.language.networks.attention import merge_heads, split_heads

ModelArgs = base.ModelArgs


class Attention(base.AttentionModule):
    def __call__(self, x: mx.array, mask: Any = None, cache: Any = None) -> mx.array:
        offset = 0 if cache is None else cache.offset
        q = self.rope(split_heads(self.q_proj(x), self.n_heads), offset=offset)
        k = self.rope(split_heads(self.k_proj(x), self.n_kv_heads), offset=offset)
        v = split_heads(self.v_proj(x), self.n_kv_heads)
        if cache is not None:
            k, v = cache.update_and_fetch(k, v)
        out = scaled_dot_product_attention(q, k, v, cache=cache, scale=self.scale, mask=mask)
        projected: mx.array = self.out_proj(merge_heads(out))
        return projected


class Model(base.Model):
    def __init__(self, args: base.ModelArgs) -> None:
        super().__init__(args)
        for module in self.modules():
            if type(module) is base.AttentionModule:
                module.__class__ = Attention
