"""EXAONE 3: heads may be wider than their share of the hidden size."""

from typing import Any

import mlx.core as mx
from mlx_lm.models import exaone as base
from mlx_lm.models.base import scaled_dot_product_attention

ModelArgs = base.ModelArgs


class Attention(base.AttentionModule):
    def __call__(self, x: mx.array, mask: Any = None, cache: Any = None) -> mx.array:
        rows, length, _ = x.shape

        def heads(values: mx.array, count: int) -> mx.array:
            return values.reshape(rows, length, count, -1).transpose(0, 2, 1, 3)

        q, k = heads(self.q_proj(x), self.n_heads), heads(self.k_proj(x), self.n_kv_heads)
        v = heads(self.v_proj(x), self.n_kv_heads)
        offset = 0 if cache is None else cache.offset
        q, k = self.rope(q, offset=offset), self.rope(k, offset=offset)
        if cache is not None:
            k, v = cache.update_and_fetch(k, v)
        out = scaled_dot_product_attention(q, k, v, cache=cache, scale=self.scale, mask=mask)
        projected: mx.array = self.out_proj(out.transpose(0, 2, 1, 3).reshape(rows, length, -1))
        return projected


class Model(base.Model):
    def __init__(self, args: base.ModelArgs) -> None:
        super().__init__(args)
        for module in self.modules():
            if type(module) is base.AttentionModule:
                module.__class__ = Attention
