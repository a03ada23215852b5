"""BERT, and RoBERTa's kin, which count positions from behind the padding token."""

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from models.checkpoint.weights import WeightMap
from models.config import Config, ConfigError
from models.encoders.attention import attend
from models.encoders.gelu import activation
from models.layers.basic import merge_heads, split_heads

WEIGHTS = WeightMap(
    strip=("bert.", "roberta."),
    drop=("cls.*", "lm_head.*", "embeddings.position_ids", "embeddings.token_type_ids"),
    rename=(
        ("LayerNorm.gamma", "LayerNorm.weight"),
        ("LayerNorm.beta", "LayerNorm.bias"),
        ("attention.self", "attention"),
    ),
    fuse={"attention.qkv": ("attention.query", "attention.key", "attention.value")},
)
# Checkpoints of embedders may have heads that only classifiers use.
HEADLESS = ("pooler.*", "classifier.*")


@dataclass(frozen=True)
class BertConfig(Config):
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = None
    model_type: str = "bert"

    def __post_init__(self) -> None:
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"BertConfig: hidden_size {self.hidden_size} does not divide into "
                f"num_attention_heads {self.num_attention_heads}"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


class Embeddings(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def __call__(self, ids: mx.array, positions: mx.array, types: mx.array | None) -> mx.array:
        kinds = self.token_type_embeddings(mx.zeros(1, mx.int32) if types is None else types)
        return self.LayerNorm(self.word_embeddings(ids) + kinds + self.position_embeddings(positions))


class Output(nn.Module):
    """A projection, added to its input and normed."""

    def __init__(self, inputs: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def __call__(self, x: mx.array, residual: mx.array) -> mx.array:
        return self.LayerNorm(self.dense(x) + residual)


class Attention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = Output(config.hidden_size, config)

    def __call__(self, x: mx.array, lengths: mx.array | None) -> mx.array:
        q, k, v = (split_heads(part, self.head_dim) for part in mx.split(self.qkv(x), 3, axis=-1))
        return self.output(merge_heads(attend(q, k, v, lengths)), x)


class Intermediate(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.act = activation(config.hidden_act)

    def __call__(self, x: mx.array) -> mx.array:
        return self.act(self.dense(x))


class Layer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Intermediate(config)
        self.output = Output(config.intermediate_size, config)

    def __call__(self, x: mx.array, lengths: mx.array | None) -> mx.array:
        x = self.attention(x, lengths)
        return self.output(self.intermediate(x), x)


class Layers(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = [Layer(config) for _ in range(config.num_hidden_layers)]


class Bert(nn.Module):
    """Token ids [batch, length] to hidden states. Of each row the first `lengths` tokens count; None: all of them."""

    weight_map = WEIGHTS
    headless: tuple[str, ...] = HEADLESS

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Layers(config)

    def __call__(
        self, ids: NDArray[np.int32], lengths: mx.array | None = None, types: mx.array | None = None
    ) -> mx.array:
        x = self.embeddings(mx.array(ids), mx.array(self.positions(ids)), types)
        for layer in self.encoder.layer:
            x = layer(x, lengths)
        return x

    @property
    def padding(self) -> int:
        """The token that fills shorter rows."""
        return self.config.pad_token_id or 0

    def positions(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        return np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape)


class Roberta(Bert):
    @property
    def padding(self) -> int:
        return 1 if self.config.pad_token_id is None else self.config.pad_token_id

    def positions(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """As in training, a padding token within a text is not counted."""
        real = ids != self.padding
        return (np.cumsum(real, axis=1, dtype=np.int32) * real + self.padding).astype(np.int32)
