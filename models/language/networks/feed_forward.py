"""Feed-forward blocks with their own width, where mlx-lm uses four times the hidden size."""

import mlx.nn as nn


def resize(model: nn.Module, first: str, last: str, hidden: int, width: int | None) -> None:
    """Replace the two layers of each block by layers of that width; None: keep mlx-lm's width."""
    if width is None:
        return
    for layer in model.layers:
        block = layer.mlp
        block[first] = nn.Linear(hidden, width, bias="bias" in block[first])
        block[last] = nn.Linear(width, hidden, bias="bias" in block[last])
