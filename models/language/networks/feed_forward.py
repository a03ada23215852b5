"""Feed-forward blocks of a width of their own, where mlx-lm takes four times the hidden size."""

import mlx.nn as nn


def resize(block: nn.Module, first: str, last: str, hidden: int, width: int) -> None:
    """Two layers of a block made anew for that width."""
    block[first] = nn.Linear(hidden, width, bias="bias" in block[first])
    block[last] = nn.Linear(width, hidden, bias="bias" in block[last])
