import mlx.core as mx
import numpy as np
import pytest

from models.kernels.gpu import on_cuda
from models.vae import tiled_statistics
from models.vae.tiled_statistics import row_moments, scale_and_shift

on_a_card = pytest.mark.skipif(not on_cuda(), reason="needs an NVIDIA card")
DTYPES = [mx.float32, mx.bfloat16, mx.float16]
# Rows, width and channels: channels of a tile, of several, of a part of one, and pixels that no lane divides.
SIZES = [(5, 64, 128), (3, 33, 512), (2, 7, 96), (1, 3, 8), (4, 100, 200)]
sizes = pytest.mark.parametrize(("height", "width", "channels"), SIZES)


def picture(height: int, width: int, channels: int, dtype: mx.Dtype, n: int = 2) -> mx.array:
    """Noise, each channel around a mean of its own."""
    noise = mx.random.normal((n, height, width, channels), key=mx.random.key(1))
    return (noise + 3 * mx.random.normal((channels,), key=mx.random.key(2))).astype(dtype)


def values(channels: int, seed: int, dtype: mx.Dtype = mx.float32) -> mx.array:
    return (1 + 0.3 * mx.random.normal((channels,), key=mx.random.key(seed))).astype(dtype)


def normed(x: mx.array, groups: int, weight: mx.array, bias: mx.array) -> np.ndarray:
    """Group norm in NumPy's doubles."""
    n, *rest, channels = x.shape
    wide = np.array(x.astype(mx.float32), np.float64).reshape(n, *rest, groups, channels // groups)
    mean = wide.mean(axis=(1, 2, 4), keepdims=True)
    deviation = np.sqrt(wide.var(axis=(1, 2, 4), keepdims=True) + tiled_statistics.EPS)
    return ((wide - mean) / deviation).reshape(x.shape) * np.array(weight) + np.array(bias)


@sizes
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_each_row_has_a_mean_and_a_variance(height: int, width: int, channels: int, dtype: mx.Dtype) -> None:
    x = picture(height, width, channels, dtype)
    wide = np.array(x.astype(mx.float32), np.float64)
    means, variances = row_moments(x)
    np.testing.assert_allclose(means, wide.mean(axis=2), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(variances, wide.var(axis=2), rtol=1e-4, atol=1e-5)


def test_moments_are_right_far_from_zero() -> None:
    x = 300 + 0.01 * mx.random.normal((1, 3, 50, 16), key=mx.random.key(3))
    wide = np.array(x, np.float64)
    means, variances = row_moments(x)
    np.testing.assert_allclose(means, wide.mean(axis=2), rtol=1e-6)
    np.testing.assert_allclose(variances, wide.var(axis=2), rtol=0.02)


@sizes
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_rows_are_joined_to_group_norm(height: int, width: int, channels: int, groups: int) -> None:
    x, weight, bias = picture(height, width, channels, mx.float32), values(channels, 4), values(channels, 5)
    scale, shift = scale_and_shift(row_moments(x), groups, weight, bias)
    actual = x * scale[:, None, None] + shift[:, None, None]
    np.testing.assert_allclose(actual, normed(x, groups, weight, bias), atol=1e-4)


def test_what_the_channels_lack_is_as_if_it_had_been_added() -> None:
    x, weight, bias, lack = picture(4, 9, 24, mx.float32), values(24, 4), values(24, 5), 5 * values(24, 6)
    scale, shift = scale_and_shift(row_moments(x), 3, weight, bias, lack)
    actual = x * scale[:, None, None] + shift[:, None, None]
    np.testing.assert_allclose(actual, normed(x + lack, 3, weight, bias), atol=1e-4)


@on_a_card
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lacking", [False, True])
@pytest.mark.parametrize(("height", "width", "channels"), [*SIZES, (1024, 1024, 128), (128, 128, 512)])
def test_kernels_and_pieces_agree(
    height: int, width: int, channels: int, lacking: bool, dtype: mx.Dtype
) -> None:
    x = picture(height, width, channels, dtype, n=1)
    parameters = values(channels, 4, dtype), values(channels, 5, dtype)
    lack = values(channels, 6, dtype) if lacking else None
    pieces = tiled_statistics._row_moments_by_mlx(x)
    by_kernel = tiled_statistics._row_moments_by_kernel(x)
    for one, other in zip(by_kernel, pieces, strict=True):
        assert mx.allclose(one, other, 1e-4, 1e-5)
    fitted = tiled_statistics._scale_and_shift_by_mlx(pieces, 8, *parameters, lack)
    for one, other in zip(
        tiled_statistics._scale_and_shift_by_kernel(pieces, 8, *parameters, lack), fitted, strict=True
    ):
        assert mx.allclose(one, other, 1e-4, 1e-5)
