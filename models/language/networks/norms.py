"""Norms that mlx-lm's networks compute with another epsilon or over other channels."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.activations import swiglu

LATENT_EPS = 1e-6  # of the norms of compressed queries, keys and values; not in any configuration


class GroupedGatedNorm(nn.Module):
    """The gated norm of Mamba 2, separately over the heads of each group. Replaces the class of mlx-lm's norm."""

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


def set_epsilon(model: nn.Module, eps: float, norm: type[nn.Module] = nn.RMSNorm) -> None:
    """For all norms of that class in a network."""
    for module in model.modules():
        if isinstance(module, norm):
            module.eps = eps


def set_latent_epsilon(model: nn.Module) -> None:
    """For the norms of multi-head latent attention."""
    for layer in model.layers:
        for name in ("q_a_layernorm", "kv_a_layernorm"):
            if name in layer.self_attn:
                layer.self_attn[name].eps = LATENT_EPS
