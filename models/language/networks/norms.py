"""Norms that mlx-lm's networks compute with another epsilon or over other channels."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.activations import swiglu


class GroupedGatedNorm(nn.Module):
    """The gated norm of Mamba 2 over the heads of each group apart. Takes the place, by its class, of mlx-lm's."""

    weight: mx.array
    eps: float
    groups: int

    def __call__(self, hidden_states: mx.array, gate: mx.array) -> mx.array:
        gated = mx.unflatten(swiglu(gate, hidden_states), -1, (self.groups, -1))
        return self.weight * mx.fast.rms_norm(gated, None, self.eps).flatten(-2)


def norm_by_groups(norm: Any, groups: int) -> None:
    if groups > 1:
        norm.__class__ = GroupedGatedNorm
        norm.groups = groups


def set_epsilon(model: nn.Module, eps: float) -> None:
    """For all RMS norms of a network."""
    for module in model.modules():
        if isinstance(module, nn.RMSNorm):
            module.eps = eps
