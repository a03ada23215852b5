"""The text network of Qwen3-VL: positions over three axes, and what the tower has seen is added to the first layers."""

from dataclasses import dataclass

from mlx_lm.models import qwen3_vl as base

from models.language.networks.deepstack import DeepStack


@dataclass
class ModelArgs(base.ModelArgs):
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        # transformers 5 writes it beside text_config.
        self.text_config.setdefault("tie_word_embeddings", self.tie_word_embeddings)


class Model(DeepStack, base.Model):
    pass
