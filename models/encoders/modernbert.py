"""ModernBERT: norms before each block, rotary positions, and layers that see a window of the text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from models.checkpoint.weights import WeightMap
from models.config import Config, ConfigError
from models.encoders.attention import attend
from models.encoders.gelu import activation
from models.encoders.nomic_bert import rotated
from models.layers.basic import merge_heads, split_heads

WEIGHTS = WeightMap(strip=("model.",), drop=("decoder.*", "*inv_freq"))
FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class ModernBertConfig(Config):
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = 8192
    hidden_activation: str = "gelu"
    norm_eps: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    local_attention: int = 128
    layer_types: tuple[str, ...] | None = None
    global_attn_every_n_layers: int = 3
    rope_parameters: Mapping[str, Any] | None = field(default_factory=dict)
    global_rope_theta: float | None = 160_000.0
    local_rope_theta: float | None = 10_000.0
    classifier_pooling: str = "cls"
    classifier_bias: bool = False
    classifier_activation: str = "gelu"

    def __post_init__(self) -> None:
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"ModernBertConfig: hidden_size {self.hidden_size} does not divide into "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if not set(self.types) <= {FULL, SLIDING} or len(self.types) != self.num_hidden_layers:
            raise ConfigError(
                f"ModernBertConfig: layer_types is {list(self.types)!r}; {self.num_hidden_layers} of "
                f"{FULL!r} and {SLIDING!r} are needed"
            )
        if self.classifier_pooling not in ("cls", "mean"):
            raise ConfigError(
                f"ModernBertConfig: classifier_pooling is {self.classifier_pooling!r}; 'cls' or 'mean' is needed"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def types(self) -> tuple[str, ...]:
        if self.layer_types is not None:
            return self.layer_types
        return tuple(
            SLIDING if index % self.global_attn_every_n_layers else FULL
            for index in range(self.num_hidden_layers)
        )

    def theta(self, kind: str) -> float:
        layer = (self.rope_parameters or {}).get(kind) or {}
        # Older configs have one number for each kind of layer.
        older = self.global_rope_theta or 160_000.0
        if kind == SLIDING:
            older = self.local_rope_theta or older
        return float(layer.get("rope_theta", older))


class Embeddings(nn.Module):
    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.norm = _norm(config)

    def __call__(self, ids: mx.array) -> mx.array:
        return self.norm(self.tok_embeddings(ids))


def _norm(config: ModernBertConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, config.norm_eps, bias=config.norm_bias)


class Attention(nn.Module):
    def __init__(self, config: ModernBertConfig, kind: str) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.theta = config.theta(kind)
        self.window = config.local_attention // 2 if kind == SLIDING else None
        self.Wqkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=config.attention_bias)
        self.Wo = nn.Linear(config.hidden_size, config.hidden_size, bias=config.attention_bias)

    def __call__(self, x: mx.array, lengths: mx.array | None) -> mx.array:
        q, k, v = (split_heads(part, self.head_dim) for part in mx.split(self.Wqkv(x), 3, axis=-1))
        q, k = (rotated(part, self.theta) for part in (q, k))
        return self.Wo(merge_heads(attend(q, k, v, lengths, self.window)))


class FeedForward(nn.Module):
    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.Wi = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=config.mlp_bias)
        self.Wo = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)
        self.act = activation(config.hidden_activation)

    def __call__(self, x: mx.array) -> mx.array:
        value, gate = mx.split(self.Wi(x), 2, axis=-1)
        return self.Wo(self.act(value) * gate)


class Layer(nn.Module):
    def __init__(self, config: ModernBertConfig, index: int) -> None:
        super().__init__()
        # The embeddings are normed already.
        self.attn_norm = _norm(config) if index else nn.Identity()
        self.attn = Attention(config, config.types[index])
        self.mlp_norm = _norm(config)
        self.mlp = FeedForward(config)

    def __call__(self, x: mx.array, lengths: mx.array | None) -> mx.array:
        x = x + self.attn(self.attn_norm(x), lengths)
        return x + self.mlp(self.mlp_norm(x))


class ModernBert(nn.Module):
    """The same interface as Bert's; there are no token types."""

    weight_map = WEIGHTS
    headless: tuple[str, ...] = ("head.*", "classifier.*")
    padding = 0

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = [Layer(config, index) for index in range(config.num_hidden_layers)]
        self.final_norm = _norm(config)

    def __call__(
        self, ids: NDArray[np.int32], lengths: mx.array | None = None, types: mx.array | None = None
    ) -> mx.array:
        x = self.embeddings(mx.array(ids))
        for layer in self.layers:
            x = layer(x, lengths)
        return self.final_norm(x)
