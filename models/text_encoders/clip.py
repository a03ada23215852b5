"""CLIP's text encoder: token ids to one pooled vector, the normed state at the end-of-text token."""

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from models.checkpoint.weights import WeightMap
from models.config import Config, ConfigError
from models.layers.basic import activation, attention, causal_and_real, merge_heads, split_heads

WEIGHTS = WeightMap(
    strip=("text_model.",),
    drop=("embeddings.position_ids",),
    fuse={"qkv_proj": ("q_proj", "k_proj", "v_proj")},
)
# The value in files from before 2023, for any vocabulary; their end-of-text token is the highest id.
LEGACY_EOS = 2


@dataclass(frozen=True)
class CLIPTextConfig(Config):
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    eos_token_id: int = 49407

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"CLIPTextConfig: hidden_size {self.hidden_size} does not divide into "
                f"num_attention_heads {self.num_attention_heads}"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


class Embeddings(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def __call__(self, ids: mx.array) -> mx.array:
        length, longest = ids.shape[-1], self.position_embedding.weight.shape[0]
        if length > longest:
            raise ValueError(f"{length} tokens are too long for this CLIP model: it has {longest} positions")
        return self.token_embedding(ids) + self.position_embedding(mx.arange(length))


class Attention(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.qkv_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def __call__(self, x: mx.array, mask: mx.array | str) -> mx.array:
        q, k, v = (split_heads(part, self.head_dim) for part in mx.split(self.qkv_proj(x), 3, axis=-1))
        return self.out_proj(merge_heads(attention(q, k, v, mask)))


class MLP(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.act = activation(config.hidden_act)
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def __call__(self, x: mx.array) -> mx.array:
        return self.fc2(self.act(self.fc1(x)))


class Layer(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def __call__(self, x: mx.array, mask: mx.array | str) -> mx.array:
        x = x + self.self_attn(self.layer_norm1(x), mask)
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.layers = [Layer(config) for _ in range(config.num_hidden_layers)]


class CLIPTextEncoder(nn.Module):
    weight_map = WEIGHTS

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.eos_token_id = config.eos_token_id
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def __call__(self, ids: mx.array, mask: mx.array | None = None) -> mx.array:
        """[batch, length] to [batch, hidden_size]; the causal mask already hides padding at the end."""
        x = self.embeddings(ids)
        visible = "causal" if mask is None else causal_and_real(mask)
        for layer in self.encoder.layers:
            x = layer(x, visible)
        return self.final_layer_norm(x[mx.arange(len(ids)), self._ends(ids)])

    def _ends(self, ids: mx.array) -> mx.array:
        """The position of each row's first end-of-text token; padding may repeat it."""
        legacy = self.eos_token_id == LEGACY_EOS
        return mx.argmax(ids if legacy else ids == self.eos_token_id, axis=-1)
