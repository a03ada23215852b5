"""Dequantizes a language model's layers, including experts and latent attention."""

import mlx.nn as nn
from mlx_lm.models.mla import MultiLinear, QuantizedMultiLinear
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

from models.checkpoint import unpack as common

PLAIN = {**common.PLAIN, QuantizedSwitchLinear: SwitchLinear, QuantizedMultiLinear: MultiLinear}


def unpack(model: nn.Module, above: int = 0) -> list[str]:
    """Dequantize layers of more than `above` bits in place, lazily; returns their paths."""
    return common.unpack(model, PLAIN, above)


def unpacked_bytes(model: nn.Module) -> int:
    return common.unpacked_bytes(model, PLAIN)


def is_quantized(model: nn.Module) -> bool:
    return any(layer.get("scales") is not None for layer in model.modules())
