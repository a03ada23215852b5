"""The norm of Qwen-Image's autoencoder: of each pixel over its channels, so it needs nothing of the rest of the image."""

from functools import partial

import mlx.core as mx
import mlx.nn as nn

from models.vae.tiling import TiledImage

# The reference divides by a norm of at least 1e-12.
EPS = 1e-24


@partial(mx.compile, shapeless=True)
def _silu(x: mx.array) -> mx.array:
    wide = x.astype(mx.float32)
    return (wide * mx.sigmoid(wide)).astype(x.dtype)


class FittedPixelNorm:
    def __init__(self, weight: mx.array, offset: mx.array | None) -> None:
        self.weight, self.offset = weight, offset

    def __call__(self, rows: mx.array) -> mx.array:
        shown = rows if self.offset is None else rows + self.offset
        return mx.fast.rms_norm(shown, self.weight, EPS)

    def silu(self, rows: mx.array) -> mx.array:
        return _silu(self(rows))


class PixelNorm(nn.Module):
    """`axes`: those of time and space behind the channels, which the checkpoint's factors have with length 1."""

    def __init__(self, channels: int, axes: int = 3) -> None:
        super().__init__()
        self.gamma = mx.ones((channels, *[1] * axes))

    def fit(self, image: TiledImage, offset: mx.array | None = None) -> FittedPixelNorm:
        """`offset` is a convolution's bias that the image still lacks."""
        return FittedPixelNorm(self.gamma.flatten(), offset)
