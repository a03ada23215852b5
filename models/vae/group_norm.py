"""Group norm in two halves: `fit` reads the whole image, and its result is applied to any part of it."""

from functools import partial

import mlx.core as mx
import mlx.nn as nn

from models.vae.tiled_statistics import Moments, row_moments, scale_and_shift
from models.vae.tiling import Materialized, TiledImage


@partial(mx.compile, shapeless=True)
def _scaled(x: mx.array, scale: mx.array, shift: mx.array) -> mx.array:
    return (x.astype(mx.float32) * scale + shift).astype(x.dtype)


@partial(mx.compile, shapeless=True)
def _scaled_silu(x: mx.array, scale: mx.array, shift: mx.array) -> mx.array:
    y = x.astype(mx.float32) * scale + shift
    return (y * mx.sigmoid(y)).astype(x.dtype)


class FittedNorm:
    """A group norm fitted to an image: a scale and a shift for each channel, [n, 1, 1, channels]."""

    def __init__(self, scale: mx.array, shift: mx.array) -> None:
        self.scale, self.shift = scale, shift

    def __call__(self, rows: mx.array) -> mx.array:
        return _scaled(rows, self.scale, self.shift)

    def silu(self, rows: mx.array) -> mx.array:
        return _scaled_silu(rows, self.scale, self.shift)


class GroupNorm(nn.Module):
    def __init__(self, groups: int, channels: int) -> None:
        super().__init__()
        self.weight = mx.ones((channels,))
        self.bias = mx.zeros((channels,))
        self._groups = groups

    def fit(self, image: TiledImage, offset: mx.array | None = None) -> FittedNorm:
        """`offset` is a convolution's bias that the image still lacks: the shift adds it, without a pass of its own."""
        moments: list[Moments] = []
        for top, bottom in image.strips():
            moments.append(row_moments(image.window(top, bottom).rows))
            # Lazy rows are computed for this alone, and held until they are read.
            if image.scheduler and not isinstance(image, Materialized):
                image.scheduler.submit(*moments[-1])
        means, variances = (mx.concatenate(list(parts), axis=1) for parts in zip(*moments, strict=True))
        scale, shift = scale_and_shift((means, variances), self._groups, self.weight, self.bias, offset)
        return FittedNorm(scale[:, None, None], shift[:, None, None])
