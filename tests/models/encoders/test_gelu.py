"""GELU on a processor: MLX's own."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from models.encoders.gelu import BLOCK, gelu


@pytest.mark.parametrize("shape", [(BLOCK * 2 + 5,), (3, 7, 11), (1,), (0, 4)])
def test_it_is_mlx_s_gelu_everywhere(shape: tuple[int, ...]) -> None:
    x = mx.random.normal(shape, key=mx.random.key(1)) * 3
    result = gelu(x)
    assert result.shape == x.shape
    np.testing.assert_allclose(result, nn.gelu(x), atol=2e-6)


def test_large_values_and_none_at_all() -> None:
    x = mx.array([0.0, 1e-30, -1e-8, 1e30, -1e30, 12.0, -12.0, mx.nan])
    np.testing.assert_allclose(gelu(x), nn.gelu(x), rtol=1e-6, atol=2e-6)


def test_part_of_an_array_is_read_and_nothing_changed() -> None:
    x = mx.random.normal((6, 8))
    before = np.array(x)
    np.testing.assert_allclose(gelu(x[:, 2:5]), nn.gelu(x[:, 2:5]), atol=2e-6)
    np.testing.assert_array_equal(x, before)


def test_half_precision_is_mlx_s() -> None:
    x = mx.linspace(-12, 12, 2001)
    for dtype in (mx.float16, mx.bfloat16):
        expected = nn.gelu(x.astype(dtype)).astype(mx.float32)
        np.testing.assert_array_equal(gelu(x.astype(dtype)).astype(mx.float32), expected)
