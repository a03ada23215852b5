"""EXAONE 4 with sliding layers from `layer_types`; if there are any, the others have no rotary embedding."""

from dataclasses import dataclass

import mlx.nn as nn
from mlx_lm.models import exaone4 as base


@dataclass
class ModelArgs(base.ModelArgs):
    sliding_window_pattern: str | int | None = None
    layer_types: list[str] | None = None

    def __post_init__(self) -> None:
        if self.layer_types is None and isinstance(self.sliding_window_pattern, str):
            pattern = self.sliding_window_pattern
            self.layer_types = [
                "sliding_attention" if pattern[i % len(pattern)] == "L" else "full_attention"
                for i in range(self.num_hidden_layers)
            ]
        self.sliding_window_pattern = None  # mlx-lm then creates all layers with rope and full attention


class Model(base.Model):
    slides_by_config = True

    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        if args.sliding_window and args.layer_types:
            for layer, kind in zip(self.layers, args.layer_types, strict=True):
                layer.self_attn.use_rope = kind == "sliding_attention"
                if not layer.self_attn.use_rope:
                    layer.self_attn.rope = nn.Identity()
