"""Building blocks of several networks. Norms are MLX's own (nn.RMSNorm, nn.LayerNorm), which are fused already."""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from models.config import ConfigError


def split_heads(x: mx.array, head_dim: int) -> mx.array:
    """[batch, length, heads x head_dim] to [batch, heads, length, head_dim]."""
    batch, length, _ = x.shape
    return x.reshape(batch, length, -1, head_dim).transpose(0, 2, 1, 3)


def merge_heads(x: mx.array) -> mx.array:
    """[batch, heads, length, head_dim] to [batch, length, heads x head_dim]."""
    batch, _, length, _ = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, length, -1)


def attention(
    q: mx.array, k: mx.array, v: mx.array, mask: mx.array | str | None = None, scale: float | None = None
) -> mx.array:
    """Softmax attention of [batch, heads, length, head_dim]; k and v may have fewer heads. Pass no mask
    rather than one of ones, which costs as much as a real one."""
    return mx.fast.scaled_dot_product_attention(
        q, k, v, scale=q.shape[-1] ** -0.5 if scale is None else scale, mask=mask
    )


def causal_and_real(mask: mx.array) -> mx.array:
    """The causal mask without padding, [batch, 1, length, length].

    Padding in front of a prompt would attend to nothing, whose softmax is NaN on some devices and spreads to the prompt:
    such a row attends to itself.
    """
    length = mask.shape[-1]
    visible = mx.tri(length, dtype=mx.bool_) & mask.astype(mx.bool_)[:, None, None, :]
    return visible | (~visible.any(axis=-1, keepdims=True) & mx.eye(length, dtype=mx.bool_))


def quick_gelu(x: mx.array) -> mx.array:
    return x * mx.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "silu": nn.silu,
    "swish": nn.silu,
    "relu": nn.relu,
    "gelu": nn.gelu,
    "gelu_new": nn.gelu_approx,
    "gelu_pytorch_tanh": nn.gelu_approx,
    "gelu-approximate": nn.gelu_approx,
    "quick_gelu": quick_gelu,
}


def activation(name: str) -> Callable[[mx.array], mx.array]:
    """The function named by a config (hidden_act and the like)."""
    if name not in ACTIVATIONS:
        raise ConfigError(f"activation {name!r} is unknown; one of {', '.join(ACTIVATIONS)} is needed")
    return ACTIVATIONS[name]
