"""The text model of Llama 4, saved without its vision model, with the experts, chunks and rotations of each layer.

mlx-lm's network of that name has neither experts nor chunks: it was written for MobileLLM.
"""

from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import llama4 as base
from mlx_lm.models.base import create_attention_mask, scaled_dot_product_attention
from mlx_lm.models.cache import ChunkedKVCache, KVCache

from models.language.cache.kv_cache import Cache
from models.language.networks.attention import merge_heads, split_heads
from models.language.networks.experts import Weights, split_experts

CHUNKED = "chunked_attention"


@dataclass
class ModelArgs(base.TextArgs):
    layer_types: list[str] = field(default_factory=list)
    no_rope_layers: list[int] = field(default_factory=list)  # 1 where a layer rotates
    moe_layers: list[int] = field(default_factory=list)


class Attention(base.Attention):
    chunk: int | None = None  # tokens that attend to each other; None for full attention
    eps: float = 1e-5

    def __call__(self, x: mx.array, mask: Any = None, cache: Any = None) -> mx.array:
        length = x.shape[1]
        if self.chunk is not None:
            mask = within_chunk(self.chunk, length, cache)
        offset = 0 if cache is None else cache.offset
        q = split_heads(self.q_proj(x), self.n_heads)
        k = split_heads(self.k_proj(x), self.n_kv_heads)
        v = split_heads(self.v_proj(x), self.n_kv_heads)
        if self.use_rope:
            q, k = self.rope(q, offset=offset), self.rope(k, offset=offset)
        if self.use_qk_norm:
            q, k = mx.fast.rms_norm(q, None, self.eps), mx.fast.rms_norm(k, None, self.eps)
        if self.attn_temperature_tuning and not self.use_rope:
            q = (q * self._temperature(length, offset)).astype(q.dtype)
        if cache is not None:
            k, v = cache.update_and_fetch(k, v)
        out = scaled_dot_product_attention(q, k, v, cache=cache, scale=self.scale, mask=mask)
        projected: mx.array = self.o_proj(merge_heads(out))
        return projected

    def _temperature(self, length: int, offset: int | mx.array) -> mx.array:
        """A factor for each query, by its position in the text."""
        positions = mx.array(offset)[..., None] + mx.arange(1, length + 1)
        scales = mx.log(mx.floor(positions / self.floor_scale) + 1.0) * self.attn_scale + 1.0
        return scales.reshape(-1, 1, length, 1)


def within_chunk(chunk: int, length: int, cache: Any) -> mx.array:
    """A causal mask within chunks."""
    if cache is not None:
        cache.maybe_trim_front()
    first, offset = (0, 0) if cache is None else (cache.start_position, cache.offset)
    keys, queries = mx.arange(first, offset + length), mx.arange(offset, offset + length)[:, None]
    return (keys <= queries) & (keys // chunk == queries // chunk)


class LlamaModel(base.LlamaModel):
    def __call__(self, inputs: mx.array, cache: Any = None) -> mx.array:
        h = self.embed_tokens(inputs)
        caches = [None] * len(self.layers) if cache is None else cache
        full = next((layer_cache for layer_cache in caches if isinstance(layer_cache, KVCache)), None)
        mask = create_attention_mask(h, full)
        for layer, layer_cache in zip(self.layers, caches, strict=True):
            h = layer(h, mask, cache=layer_cache)
        return self.norm(h)


class Model(base.LanguageModel):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        self.model.__class__ = LlamaModel
        for number, layer in enumerate(self.layers):
            attention = layer.self_attn
            attention.__class__ = Attention
            attention.chunk = args.attention_chunk_size if args.layer_types[number] == CHUNKED else None
            attention.eps = args.rms_norm_eps
            attention.use_rope = bool(args.no_rope_layers[number])
            attention.use_qk_norm = args.use_qk_norm and attention.use_rope
            if layer.is_moe_layer != (number in args.moe_layers):
                layer.is_moe_layer = not layer.is_moe_layer
                layer.feed_forward = _feed_forward(args, layer.is_moe_layer)

    @property
    def layers(self) -> list[nn.Module]:
        layers: list[nn.Module] = self.model.layers
        return layers

    def make_cache(self) -> Cache:
        chunks = [layer.self_attn.chunk for layer in self.layers]
        return [KVCache() if chunk is None else ChunkedKVCache(chunk) for chunk in chunks]

    def sanitize(self, weights: Weights) -> Weights:
        experts = "feed_forward.experts"
        return split_experts(weights, experts, experts, transposed=True)


def _feed_forward(args: ModelArgs, experts: bool) -> nn.Module:
    network: nn.Module = base.MoE(args) if experts else base.MLP(args, args.intermediate_size_mlp)
    return network
