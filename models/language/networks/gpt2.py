"""GPT-2 with a feed-forward width of its own, and with the names that transformers writes today."""

from dataclasses import dataclass

import mlx.core as mx
from mlx_lm.models import gpt2 as base

from models.language.networks.feed_forward import resize


@dataclass
class ModelArgs(base.ModelArgs):
    n_inner: int | None = None


class Model(base.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        if args.n_inner is not None:
            for layer in self.layers:
                resize(layer.mlp, "c_fc", "c_proj", args.n_embd, args.n_inner)

    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        sanitized: dict[str, mx.array] = super().sanitize(
            {key.removeprefix("transformer."): value for key, value in weights.items()}
        )
        return sanitized
