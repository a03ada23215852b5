"""GPT-J with a feed-forward width of its own."""

from dataclasses import dataclass

from mlx_lm.models import gptj as base

from models.language.networks.feed_forward import resize


@dataclass
class ModelArgs(base.ModelArgs):
    n_inner: int | None = None


class Model(base.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        if args.n_inner is not None:
            for layer in self.layers:
                resize(layer.mlp, "fc_in", "fc_out", args.n_embd, args.n_inner)
