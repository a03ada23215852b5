"""Group norm in two halves: `fit` reads the whole picture, what it returns is applied to any part of it."""

from functools import partial

import mlx.core as mx
import mlx.nn as nn

from models.vae.tiled_statistics import Moments, joined, row_moments
from models.vae.tiling import Plane, Stored


@partial(mx.compile, shapeless=True)
def _scaled(x: mx.array, scale: mx.array, shift: mx.array) -> mx.array:
    return (x.astype(mx.float32) * scale + shift).astype(x.dtype)


@partial(mx.compile, shapeless=True)
def _scaled_silu(x: mx.array, scale: mx.array, shift: mx.array) -> mx.array:
    y = x.astype(mx.float32) * scale + shift
    return (y * mx.sigmoid(y)).astype(x.dtype)


class Fitted:
    """A group norm once it knows its picture: a scale and a shift for each channel, [n, 1, 1, channels]."""

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

    def fit(self, plane: Plane, offset: mx.array | None = None) -> Fitted:
        """`offset` is what the plane's channels lack, a convolution's bias: the shift brings it, without a pass of its own."""
        moments: list[Moments] = []
        for top, bottom in plane.strips():
            moments.append(row_moments(plane.window(top, bottom).rows))
            # Rows that are computed for this alone are held until they are read; stored ones are there anyway.
            if plane.pace and not isinstance(plane, Stored):
                plane.pace.follow(*moments[-1])
        means, variances = (mx.concatenate(list(parts), axis=1) for parts in zip(*moments, strict=True))
        scale, shift = joined((means, variances), self._groups, self.weight, self.bias, offset)
        return Fitted(scale[:, None, None], shift[:, None, None])
