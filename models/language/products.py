"""mlx-lm's quantized layers with our products, which suit prompts and batches on NVIDIA cards too."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import mlx.nn as nn

from models.fused import on_cuda
from models.lead import bounded_lead
from models.quantized_layers import MANY, QuantizedEmbedding, QuantizedLinear

# Beyond what stays: else a GPU is handed all layers at once, with weights that are unpacked for each.
ROOM = 2 * 1024**3

OURS: dict[type[nn.Module], type[nn.Module]] = {
    nn.QuantizedLinear: QuantizedLinear,
    nn.QuantizedEmbedding: QuantizedEmbedding,
}


def suit_rows(model: nn.Module) -> None:
    """In place, whatever the architecture. What is derived from these classes, and experts, stay as they are."""
    for layer in model.modules():
        layer.__class__ = OURS.get(type(layer), type(layer))


def lead_of(model: nn.Module) -> Callable[[int], AbstractContextManager[None]]:
    """How a step of so many rows is handed to the device: with bounds, where weights are unpacked for it. There may be
    nearly twice as many slots as rows."""
    unpacks = on_cuda() and any(isinstance(layer, tuple(OURS)) for layer in model.modules())
    return lambda rows: bounded_lead(ROOM) if unpacks and 2 * rows > MANY else nullcontext()
