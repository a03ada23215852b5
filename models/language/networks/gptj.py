"""GPT-J with its own feed-forward width."""

from dataclasses import dataclass

from mlx_lm.models import gptj as base

from models.language.networks.feed_forward import resize


@dataclass
class ModelArgs(base.ModelArgs):
    n_inner: int | None = None


class Model(base.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        resize(self, "fc_in", "fc_out", args.n_embd, args.n_inner)
