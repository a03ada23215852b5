"""A language model's quantized layers made plain, those of experts and of latent attention too."""

import mlx.nn as nn
from mlx_lm.models.mla import MultiLinear, QuantizedMultiLinear
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

from models.checkpoint import unpack as ground

PLAIN = {**ground.PLAIN, QuantizedSwitchLinear: SwitchLinear, QuantizedMultiLinear: MultiLinear}


def unpack(model: nn.Module) -> int:
    """In place, lazily; how many layers there were."""
    return ground.unpack(model, PLAIN)


def unpacked_bytes(model: nn.Module) -> int:
    return ground.unpacked_bytes(model, PLAIN)


def is_quantized(model: nn.Module) -> bool:
    return any(layer.get("scales") is not None for layer in model.modules())
