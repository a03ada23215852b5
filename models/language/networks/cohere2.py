"""Command R7B with sliding layers from `layer_types`, and heads that may be wider than hidden_size / num_attention_heads."""

from dataclasses import dataclass, replace

import mlx.nn as nn
from mlx_lm.models import cohere2 as base


@dataclass
class ModelArgs(base.ModelArgs):
    num_hidden_layers: int = 32
    hidden_size: int = 4096
    num_attention_heads: int = 32
    num_key_value_heads: int = 8
    head_dim: int = 128
    sliding_window_pattern: int = 4
    layer_types: list[str] | None = None

    def __post_init__(self) -> None:
        # mlx-lm uses the layer at this index of each pattern: it must exist.
        self.sliding_window_pattern = min(self.sliding_window_pattern, self.num_hidden_layers)


class Model(base.Model):
    slides_by_config = True

    def __init__(self, args: ModelArgs) -> None:
        heads = args.num_attention_heads * args.head_dim
        super().__init__(replace(args, hidden_size=heads) if heads != args.hidden_size else args)
        if heads != args.hidden_size:
            self._widen(args)
        for layer, kind in zip(self.layers, args.layer_types or (), strict=bool(args.layer_types)):
            layer.self_attn.use_sliding_window = kind == "sliding_attention"

    def _widen(self, args: ModelArgs) -> None:
        """mlx-lm refuses such head sizes, so the layers were created for another hidden size and are replaced."""
        self.args = self.model.args = args
        dim, heads = args.hidden_size, args.num_attention_heads * args.head_dim
        keys = args.num_key_value_heads * args.head_dim
        self.model.embed_tokens = nn.Embedding(args.vocab_size, dim)
        self.model.norm = nn.LayerNorm(dim, eps=args.layer_norm_eps, bias=args.layer_norm_bias)
        for layer in self.layers:
            attention, bias = layer.self_attn, args.attention_bias
            attention.q_proj = nn.Linear(dim, heads, bias=bias)
            attention.k_proj = nn.Linear(dim, keys, bias=bias)
            attention.v_proj = nn.Linear(dim, keys, bias=bias)
            attention.o_proj = nn.Linear(heads, dim, bias=bias)
            layer.mlp = base.MLP(dim, args.intermediate_size)
            layer.input_layernorm = nn.LayerNorm(dim, eps=args.layer_norm_eps, bias=args.layer_norm_bias)
