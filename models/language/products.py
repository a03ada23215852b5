"""mlx-lm's quantized layers with our products, which suit prompts and batches on NVIDIA cards too."""

import mlx.nn as nn

from models.quantized_layers import QuantizedEmbedding, QuantizedLinear

OURS: dict[type[nn.Module], type[nn.Module]] = {
    nn.QuantizedLinear: QuantizedLinear,
    nn.QuantizedEmbedding: QuantizedEmbedding,
}


def suit_rows(model: nn.Module) -> None:
    """In place, whatever the architecture. What is derived from these classes, and experts, stay as they are."""
    for layer in model.modules():
        layer.__class__ = OURS.get(type(layer), type(layer))
