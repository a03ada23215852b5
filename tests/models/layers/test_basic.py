import math

import mlx.core as mx
import numpy as np
import pytest

from models.config import ConfigError
from models.layers.basic import activation, attention, merge_heads, split_heads


def test_heads_split_and_merge_back() -> None:
    x = mx.random.normal((2, 5, 12))
    assert split_heads(x, 4).shape == (2, 3, 5, 4)
    assert mx.array_equal(merge_heads(split_heads(x, 4)), x)


def test_attention_shares_keys_between_heads() -> None:
    q, k, v = (mx.random.normal((1, heads, 6, 8)) for heads in (4, 2, 2))
    wide = [mx.repeat(x, 2, axis=1) for x in (k, v)]
    weights = mx.softmax(q @ wide[0].swapaxes(-1, -2) / math.sqrt(8), axis=-1)
    assert mx.allclose(attention(q, k, v), weights @ wide[1], atol=1e-5)


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "silu", "relu"])
def test_activations_are_what_their_names_say(name: str) -> None:
    x = np.linspace(-4, 4, 33)
    exact = {
        "gelu": [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x],
        "gelu_new": x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "quick_gelu": x / (1 + np.exp(-1.702 * x)),
        "silu": x / (1 + np.exp(-x)),
        "relu": np.maximum(x, 0),
    }
    exact["gelu_pytorch_tanh"] = exact["gelu_new"]
    np.testing.assert_allclose(np.array(activation(name)(mx.array(x, mx.float32))), exact[name], atol=2e-6)


def test_an_unknown_activation_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="activation 'mish' is unknown; one of silu"):
        activation("mish")
