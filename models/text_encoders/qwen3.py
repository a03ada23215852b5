"""Qwen3 as a text encoder: hidden states of given depths, without a cache, a head, or layers above the deepest one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from models.checkpoint.weights import WeightMap
from models.config import Config, ConfigError
from models.layers.basic import activation, attention, causal_and_real, merge_heads, split_heads

FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


@dataclass(frozen=True)
class Qwen3Config(Config):
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int | None = None
    head_dim: int = 128
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    attention_bias: bool = False
    use_sliding_window: bool = False
    # Nested in newer files, at the top level in older ones.
    rope_theta: float | None = None
    rope_scaling: Mapping[str, Any] | None = None
    rope_parameters: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        kind = self._rope.get("rope_type", self._rope.get("type", "default"))
        if kind != "default":
            raise ConfigError(f"Qwen3Config: rope type {kind!r} is not supported; 'default' is")
        if self.use_sliding_window:
            raise ConfigError("Qwen3Config: use_sliding_window is true; only full attention is supported")
        if self.num_attention_heads % self.key_value_heads:
            raise ConfigError(
                f"Qwen3Config: {self.num_attention_heads} attention heads cannot share {self.key_value_heads} key-value heads"
            )

    @property
    def _rope(self) -> Mapping[str, Any]:
        return self.rope_parameters or self.rope_scaling or {}

    @property
    def theta(self) -> float:
        return float(self._rope.get("rope_theta", self.rope_theta or 10000.0))

    @property
    def key_value_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of Qwen3-VL's config.json that of its text network, of any other the whole."""
    nested = config.get("text_config", config)
    if not isinstance(nested, Mapping):
        raise ConfigError(f"Qwen3Config: text_config is {nested!r}; an object is needed")
    return nested


class Attention(nn.Module):
    def __init__(self, config: Qwen3Config) -> None:
        super().__init__()
        self.head_dim, self.theta = config.head_dim, config.theta
        self.query_size = config.num_attention_heads * config.head_dim
        self.key_size = config.key_value_heads * config.head_dim
        size = self.query_size + 2 * self.key_size
        self.qkv_proj = nn.Linear(config.hidden_size, size, bias=config.attention_bias)
        self.o_proj = nn.Linear(self.query_size, config.hidden_size, bias=config.attention_bias)
        self.q_norm = nn.RMSNorm(config.head_dim, config.rms_norm_eps)
        self.k_norm = nn.RMSNorm(config.head_dim, config.rms_norm_eps)

    def __call__(self, x: mx.array, mask: mx.array | str, positions: mx.array | None) -> mx.array:
        parts = mx.split(self.qkv_proj(x), [self.query_size, self.query_size + self.key_size], axis=-1)
        q, k, v = (split_heads(part, self.head_dim) for part in parts)
        q, k = self._rotate(self.q_norm(q), positions), self._rotate(self.k_norm(k), positions)
        return self.o_proj(merge_heads(attention(q, k, v, mask)))

    def _rotate(self, x: mx.array, positions: mx.array | None) -> mx.array:
        if positions is None:
            return mx.fast.rope(x, self.head_dim, traditional=False, base=self.theta, scale=1.0, offset=0)
        # Each token as a sequence of its own, which begins at its position.
        batch, heads, length, size = x.shape
        alone = x.transpose(0, 2, 1, 3).reshape(batch * length, heads, 1, size)
        turned = mx.fast.rope(
            alone, size, traditional=False, base=self.theta, scale=1.0, offset=positions.flatten()
        )
        return turned.reshape(batch, length, heads, size).transpose(0, 2, 1, 3)


class MLP(nn.Module):
    def __init__(self, config: Qwen3Config) -> None:
        super().__init__()
        self.act = activation(config.hidden_act)
        self.gate_up_proj = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        gate, up = mx.split(self.gate_up_proj(x), 2, axis=-1)
        return self.down_proj(self.act(gate) * up)


class Layer(nn.Module):
    def __init__(self, config: Qwen3Config) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def __call__(self, x: mx.array, mask: mx.array | str, positions: mx.array | None) -> mx.array:
        x = x + self.self_attn(self.input_layernorm(x), mask, positions)
        return x + self.mlp(self.post_attention_layernorm(x))


class Qwen3Encoder(nn.Module):
    """Token ids to hidden states; several depths are concatenated in the last axis.

    Depths are indices of transformers' `hidden_states`: 0 is the embeddings, i the output of layer i, the last (-1) is also
    normed; negative ones count from the end.
    """

    def __init__(self, config: Qwen3Config, depths: tuple[int, ...] = (-1,)) -> None:
        super().__init__()
        count = config.num_hidden_layers
        if not depths or any(not -count <= depth + 1 <= count + 1 for depth in depths):
            raise ConfigError(f"Qwen3Encoder: depths {depths} do not exist in an encoder of {count} layers")
        self.depths = tuple(depth % (count + 1) for depth in depths)
        self.count = count
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [Layer(config) for _ in range(max(self.depths))]
        if count in self.depths:
            self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    @property
    def weight_map(self) -> WeightMap:
        """Layers above the deepest one are in the checkpoint but not in the encoder."""
        unused = tuple(f"layers.{index}.*" for index in range(len(self.layers), self.count))
        if self.count not in self.depths:
            unused += ("norm.weight",)
        # Of Qwen3-VL, whose text network this is too, the tower is left out.
        return WeightMap(
            strip=("model.language_model.", "language_model.", "model."),
            drop=("lm_head.*", "visual.*", *unused),
            fuse=FUSED,
        )

    def __call__(
        self, ids: mx.array, mask: mx.array | None = None, positions: mx.array | None = None
    ) -> mx.array:
        """`ids`, `mask` and `positions` are [batch, length]; `mask` is 0 for padding. None: there is no padding, and
        positions count from 0."""
        visible = "causal" if mask is None else causal_and_real(mask)
        x = self.embed_tokens(ids)
        states = {0: x}
        for depth, layer in enumerate(self.layers, start=1):
            x = layer(x, visible, positions)
            if depth in self.depths:
                states[depth] = self.norm(x) if depth == self.count else x
        return mx.concatenate([states[depth] for depth in self.depths], axis=-1)
