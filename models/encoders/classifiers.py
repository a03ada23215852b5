"""Encoders with a head that makes one number of a text: cross-encoders."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from models.encoders.bert import Bert, BertConfig, Roberta
from models.encoders.gelu import activation
from models.encoders.modernbert import ModernBert, ModernBertConfig

Ids = NDArray[np.int32]


class Pooler(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def __call__(self, first: mx.array) -> mx.array:
        return mx.tanh(self.dense(first))


class BertClassifier(Bert):
    headless = ()

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.pooler = Pooler(config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, 1)

    def score(self, ids: Ids, lengths: mx.array | None, types: mx.array | None) -> mx.array:
        """One logit per row."""
        return self.classifier(self.pooler(self(ids, lengths, types)[:, 0]))[:, 0]


class RobertaHead(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, 1)

    def __call__(self, first: mx.array) -> mx.array:
        return self.out_proj(mx.tanh(self.dense(first)))


class RobertaClassifier(Roberta):
    headless = ("pooler.*",)

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.classifier = RobertaHead(config.hidden_size)

    def score(self, ids: Ids, lengths: mx.array | None, types: mx.array | None) -> mx.array:
        # Tokenizers of this kin give all tokens the same type.
        return self.classifier(self(ids, lengths)[:, 0])[:, 0]


class ModernBertHead(nn.Module):
    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=config.classifier_bias)
        self.act = activation(config.classifier_activation)
        self.norm = nn.LayerNorm(config.hidden_size, config.norm_eps, bias=config.norm_bias)

    def __call__(self, x: mx.array) -> mx.array:
        return self.norm(self.act(self.dense(x)))


class ModernBertClassifier(ModernBert):
    headless = ()

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__(config)
        self.head = ModernBertHead(config)
        self.classifier = nn.Linear(config.hidden_size, 1)

    def score(self, ids: Ids, lengths: mx.array | None, types: mx.array | None) -> mx.array:
        hidden = self(ids, lengths)
        return self.classifier(self.head(self._pooled(hidden, lengths)))[:, 0]

    def _pooled(self, hidden: mx.array, lengths: mx.array | None) -> mx.array:
        if self.config.classifier_pooling == "cls":
            return hidden[:, 0]
        if lengths is None:
            return hidden.mean(axis=1)
        real = (mx.arange(hidden.shape[1])[None] < lengths[:, None])[..., None]
        return mx.where(real, hidden, 0).sum(axis=1) / lengths[:, None]
