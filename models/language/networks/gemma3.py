"""Gemma 3 without its vision model; the text model is gemma3_text of this package."""

import mlx.core as mx
from mlx_lm.models import gemma3 as base

from models.language.networks import gemma3_text

ModelArgs = base.ModelArgs


class Model(base.Model):
    slides_by_config = True

    def __init__(self, args: base.ModelArgs) -> None:
        super().__init__(args)
        text = gemma3_text.ModelArgs.from_dict(
            {**args.text_config, "vocab_size": args.vocab_size}
            if "vocab_size" not in args.text_config
            else args.text_config
        )
        self.language_model = gemma3_text.Model(text)

    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        sanitized: dict[str, mx.array] = super().sanitize(
            {_older(name): value for name, value in weights.items()}
        )
        return sanitized


def _older(name: str) -> str:
    """transformers 5 has both networks in one model, and the head beside it; files on the hub have a whole language model."""
    name = name.removeprefix("model.")
    if name.startswith("language_model.") and not name.startswith(
        ("language_model.model.", "language_model.lm_head.")
    ):
        return f"language_model.model.{name.removeprefix('language_model.')}"
    return f"language_model.{name}" if name.startswith("lm_head.") else name
