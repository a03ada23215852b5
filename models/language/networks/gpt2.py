"""GPT-2 with its own feed-forward width, and with the weight names that transformers writes today."""

from dataclasses import dataclass

from mlx_lm.models import gpt2 as base

from models.language.networks.experts import Weights
from models.language.networks.feed_forward import resize


@dataclass
class ModelArgs(base.ModelArgs):
    n_inner: int | None = None


class Model(base.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        resize(self, "c_fc", "c_proj", args.n_embd, args.n_inner)

    def sanitize(self, weights: Weights) -> Weights:
        sanitized: Weights = super().sanitize(
            {key.removeprefix("transformer."): value for key, value in weights.items()}
        )
        return sanitized
