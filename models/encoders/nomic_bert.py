"""NomicBERT: BERT with rotary positions and a gated feed-forward, without biases.

Checkpoints are read under transformers' names and under those of the code that they were published with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from models.checkpoint.weights import WeightMap
from models.config import Config, ConfigError, read_config
from models.encoders.attention import attend
from models.encoders.gelu import activation
from models.layers.basic import merge_heads, split_heads

WEIGHTS = WeightMap(
    strip=("nomic_bert.", "bert."),
    drop=("cls.*", "embeddings.position_ids", "*inv_freq"),
    rename=(
        ("encoder.layers", "layers"),
        ("emb_ln", "embeddings.LayerNorm"),
        ("attn.Wqkv", "self_attn.qkv_proj"),
        ("attn.out_proj", "self_attn.o_proj"),
        ("mlp.fc11", "mlp.up_proj"),
        ("mlp.fc12", "mlp.gate_proj"),
        ("mlp.fc2", "mlp.down_proj"),
        ("norm1", "post_attention_layernorm"),
        ("norm2", "post_mlp_layernorm"),
    ),
    fuse={
        "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
    },
)
# The names of fields in configs of the code that the first checkpoints were published with.
OLD_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
    "rotary_emb_base": "rope_theta",
}


@dataclass(frozen=True)
class NomicBertConfig(Config):
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = 2048
    type_vocab_size: int = 2
    hidden_act: str = "silu"
    layer_norm_eps: float = 1e-12
    head_dim: int | None = None
    rope_theta: float = 1000.0
    rope_parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        named = {OLD_NAMES.get(name, name): value for name, value in values.items()}
        return read_config(cls, {name: value for name, value in named.items() if value is not None})

    def __post_init__(self) -> None:
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"NomicBertConfig: hidden_size {self.hidden_size} does not divide into "
                f"num_attention_heads {self.num_attention_heads}"
            )

    @property
    def head_size(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def theta(self) -> float:
        return float(self.rope_parameters.get("rope_theta", self.rope_theta))


class Embeddings(nn.Module):
    def __init__(self, config: NomicBertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def __call__(self, ids: mx.array, types: mx.array | None) -> mx.array:
        kinds = self.token_type_embeddings(mx.zeros(1, mx.int32) if types is None else types)
        return self.LayerNorm(self.word_embeddings(ids) + kinds)


class Attention(nn.Module):
    def __init__(self, config: NomicBertConfig) -> None:
        super().__init__()
        self.head_dim = config.head_size
        self.theta = config.theta
        size = config.num_attention_heads * config.head_size
        self.qkv_proj = nn.Linear(config.hidden_size, 3 * size, bias=False)
        self.o_proj = nn.Linear(size, config.hidden_size, bias=False)

    def __call__(self, x: mx.array, lengths: mx.array | None) -> mx.array:
        q, k, v = (split_heads(part, self.head_dim) for part in mx.split(self.qkv_proj(x), 3, axis=-1))
        q, k = (rotated(part, self.theta) for part in (q, k))
        return self.o_proj(merge_heads(attend(q, k, v, lengths)))


def rotated(x: mx.array, theta: float) -> mx.array:
    """Heads [batch, heads, length, head_dim] turned by their positions; the two halves of a head are pairs."""
    return mx.fast.rope(x, x.shape[-1], traditional=False, base=theta, scale=1.0, offset=0)


class FeedForward(nn.Module):
    def __init__(self, config: NomicBertConfig) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.act = activation(config.hidden_act)

    def __call__(self, x: mx.array) -> mx.array:
        gate, up = mx.split(self.gate_up_proj(x), 2, axis=-1)
        return self.down_proj(self.act(gate) * up)


class Layer(nn.Module):
    def __init__(self, config: NomicBertConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = FeedForward(config)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.post_mlp_layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def __call__(self, x: mx.array, lengths: mx.array | None) -> mx.array:
        x = self.post_attention_layernorm(x + self.self_attn(x, lengths))
        return self.post_mlp_layernorm(x + self.mlp(x))


class NomicBert(nn.Module):
    """The same interface as Bert's."""

    weight_map = WEIGHTS
    headless: tuple[str, ...] = ("pooler.*",)
    padding = 0

    def __init__(self, config: NomicBertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = [Layer(config) for _ in range(config.num_hidden_layers)]

    def __call__(
        self, ids: NDArray[np.int32], lengths: mx.array | None = None, types: mx.array | None = None
    ) -> mx.array:
        x = self.embeddings(mx.array(ids), types)
        for layer in self.layers:
            x = layer(x, lengths)
        return x
