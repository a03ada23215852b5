"""Gemma 3 without its vision model; the text model is gemma3_text of this package."""

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
