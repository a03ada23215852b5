"""GPT-NeoX with its own feed-forward width."""

from dataclasses import dataclass

from mlx_lm.models import gpt_neox as base

from models.language.networks.feed_forward import resize


@dataclass
class ModelArgs(base.ModelArgs):
    intermediate_size: int | None = None


class Model(base.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        resize(self, "dense_h_to_4h", "dense_4h_to_h", args.hidden_size, args.intermediate_size)
