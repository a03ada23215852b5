"""The activation named in config.json, for mlx-lm's architectures that always use another one."""

from collections.abc import Callable, Mapping

import mlx.core as mx
import mlx.nn as nn

Activation = Callable[[mx.array], mx.array]

ACTIVATIONS: Mapping[str, Activation] = {
    "silu": nn.silu,
    "swish": nn.silu,
    "gelu": nn.gelu,
    "gelu_pytorch_tanh": nn.gelu_approx,
    "gelu_new": nn.gelu_approx,
    "gelu_fast": nn.gelu_approx,
    "relu": nn.relu,
    "relu2": nn.relu2,
}

# The activation that an architecture always uses; silu if it is not listed.
BUILT_IN: Mapping[str, str] = {
    "gemma": "gelu",
    "gemma2": "gelu_pytorch_tanh",
    "gemma3_text": "gelu_pytorch_tanh",
    "gpt2": "gelu_new",
    "gpt_bigcode": "gelu",
    "gpt_neox": "gelu_new",
    "phi": "gelu_new",
    "starcoder2": "gelu",
}

# Layers of a feed-forward block in the order of computation, gated and plain.
GATED = ("gate_proj", "up_proj", "down_proj")
PLAIN = (("c_fc", "c_proj"), ("fc1", "fc2"), ("dense_h_to_4h", "dense_4h_to_h"))


def correct_activations(model: nn.Module, architecture: str, name: str) -> bool:
    """Make the feed-forward blocks use the activation `name`; returns whether any was changed."""
    activation, built_in = ACTIVATIONS.get(name), ACTIVATIONS[BUILT_IN.get(architecture, "silu")]
    if activation is None or activation is built_in:
        return False
    blocks = [module for _, module in model.named_modules() if _layers(module)]
    for block in blocks:
        block.__class__ = _with(type(block), _layers(block), activation)
    return bool(blocks)


def _layers(module: nn.Module) -> tuple[str, ...]:
    for names in (GATED, *PLAIN):
        if all(isinstance(module.get(name), nn.Linear | nn.QuantizedLinear) for name in names):
            return names
    return ()


def _with(block: type[nn.Module], names: tuple[str, ...], activation: Activation) -> type[nn.Module]:
    class Block(block):  # type: ignore[misc, valid-type]
        def __call__(self, x: mx.array) -> mx.array:
            first, *up, last = (self[name] for name in names)
            x = activation(first(x)) * up[0](x) if up else activation(first(x))
            result: mx.array = last(x)
            return result

    Block.__name__ = Block.__qualname__ = block.__name__
    return Block
