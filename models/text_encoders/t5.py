"""The encoder half of T5: token ids to hidden states."""

import math
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from models.checkpoint.weights import WeightMap
from models.config import Config, ConfigError
from models.layers.basic import activation, attention, merge_heads, split_heads

# The embedding is stored under either name or both; older files contain the decoder too.
WEIGHTS = WeightMap(
    drop=("decoder.*", "lm_head.*"),
    tied={"encoder.embed_tokens.weight": "shared.weight"},
    fuse={
        "SelfAttention.qkv": ("SelfAttention.q", "SelfAttention.k", "SelfAttention.v"),
        "wi_01": ("wi_0", "wi_1"),
    },
)
LARGEST_FLOAT16 = 64504.0


@dataclass(frozen=True)
class T5Config(Config):
    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_heads: int
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "relu"

    def __post_init__(self) -> None:
        words = self.feed_forward_proj.split("-")
        if len(words) > 2 or (len(words) == 2 and words[0] != "gated"):
            raise ConfigError(
                f"T5Config: feed_forward_proj is {self.feed_forward_proj!r}; 'gated-<activation>' or "
                "'<activation>' is needed"
            )

    @property
    def is_gated(self) -> bool:
        return self.feed_forward_proj.startswith("gated-")

    @property
    def hidden_act(self) -> str:
        # The first gated files name gelu but mean its tanh approximation.
        return "gelu_new" if self.feed_forward_proj == "gated-gelu" else self.feed_forward_proj.split("-")[-1]


class SelfAttention(nn.Module):
    def __init__(self, config: T5Config, has_bias: bool) -> None:
        super().__init__()
        self.head_dim = config.d_kv
        size = config.num_heads * config.d_kv
        self.qkv = nn.Linear(config.d_model, 3 * size, bias=False)
        self.o = nn.Linear(size, config.d_model, bias=False)
        if has_bias:
            self.relative_attention_bias = nn.Embedding(
                config.relative_attention_num_buckets, config.num_heads
            )

    def __call__(self, x: mx.array, bias: mx.array) -> mx.array:
        q, k, v = (split_heads(part, self.head_dim) for part in mx.split(self.qkv(x), 3, axis=-1))
        # T5 does not scale its scores.
        return self.o(merge_heads(attention(q, k, v, bias, scale=1.0)))


class FeedForward(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.act = activation(config.hidden_act)
        self.is_gated = config.is_gated
        if self.is_gated:
            self.wi_01 = nn.Linear(config.d_model, 2 * config.d_ff, bias=False)
        else:
            self.wi = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        if not self.is_gated:
            return self.wo(self.act(self.wi(x)))
        gate, value = mx.split(self.wi_01(x), 2, axis=-1)
        return self.wo(self.act(gate) * value)


class AttentionLayer(nn.Module):
    def __init__(self, config: T5Config, has_bias: bool) -> None:
        super().__init__()
        self.SelfAttention = SelfAttention(config, has_bias)
        self.layer_norm = nn.RMSNorm(config.d_model, config.layer_norm_epsilon)

    def __call__(self, x: mx.array, bias: mx.array) -> mx.array:
        return x + self.SelfAttention(self.layer_norm(x), bias)


class FeedForwardLayer(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.DenseReluDense = FeedForward(config)
        self.layer_norm = nn.RMSNorm(config.d_model, config.layer_norm_epsilon)

    def __call__(self, x: mx.array) -> mx.array:
        return x + self.DenseReluDense(self.layer_norm(x))


class Block(nn.Module):
    def __init__(self, config: T5Config, has_bias: bool) -> None:
        super().__init__()
        self.layer = [AttentionLayer(config, has_bias), FeedForwardLayer(config)]

    def __call__(self, x: mx.array, bias: mx.array) -> mx.array:
        attend, feed = self.layer
        return _clamp(feed(_clamp(attend(x, bias))))


class Stack(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.block = [Block(config, has_bias=index == 0) for index in range(config.num_layers)]
        self.final_layer_norm = nn.RMSNorm(config.d_model, config.layer_norm_epsilon)


class T5Encoder(nn.Module):
    weight_map = WEIGHTS

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = Stack(config)

    def __call__(self, ids: mx.array, mask: mx.array | None = None) -> mx.array:
        """`ids` and `mask` are [batch, length]; `mask` is 0 for padding. None: there is no padding."""
        x = self.shared(ids)
        bias = self._position_bias(ids.shape[-1]).astype(x.dtype)
        if mask is not None:
            bias = mx.where(mask.astype(mx.bool_)[:, None, None, :], bias, mx.finfo(x.dtype).min)
        for block in self.encoder.block:
            x = block(x, bias)
        return self.encoder.final_layer_norm(x)

    def _position_bias(self, length: int) -> mx.array:
        """[1, heads, length, length]: the first layer's table serves all of them."""
        table = self.encoder.block[0].layer[0].SelfAttention.relative_attention_bias
        buckets = relative_buckets(
            length, self.config.relative_attention_num_buckets, self.config.relative_attention_max_distance
        )
        return table(mx.array(buckets)).transpose(2, 0, 1)[None]


def relative_buckets(length: int, count: int, farthest: int) -> NDArray[np.int32]:
    """The bucket of each key relative to each query: [length, length].

    Half of `count` for each direction; the nearer half of these is exact, the rest logarithmic up to `farthest`. Computed
    in NumPy's float32, in the reference's order: a device's less precise logarithm could move a border.
    """
    positions = np.arange(length, dtype=np.int32)
    distance = positions[None, :] - positions[:, None]
    count //= 2
    exact = count // 2
    far = np.abs(distance)
    ratio = np.log(np.maximum(far, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(farthest / exact)
    )
    logarithmic = np.minimum(exact + (ratio * np.float32(count - exact)).astype(np.int32), count - 1)
    return np.where(distance > 0, count, 0).astype(np.int32) + np.where(far < exact, far, logarithmic)


def _clamp(x: mx.array) -> mx.array:
    """In float16 the sums of a large T5 overflow. The reference clamps them too."""
    return mx.clip(x, -LARGEST_FLOAT16, LARGEST_FLOAT16) if x.dtype == mx.float16 else x
