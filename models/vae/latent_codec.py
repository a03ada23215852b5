"""The interface between a denoising pipeline and whatever turns its latents into pictures."""

from typing import Protocol

import mlx.core as mx

from models.vae.strips import Strips


class LatentCodec(Protocol):
    """Pictures are [n, height, width, 3] from -1 to 1; latents are [n, height / scale, width / scale, channels], scaled
    as the transformer expects them. `strips` bounds the memory: strips of given rows, or as high as so many bytes allow."""

    @property
    def channels(self) -> int: ...

    @property
    def scale(self) -> int:
        """Pixels along one side of a latent."""

    @property
    def dtype(self) -> mx.Dtype:
        """The precision that it computes in."""

    def encode(
        self, picture: mx.array, noise: mx.array | None = None, strips: Strips | int | None = None
    ) -> mx.array:
        """The most likely latents, or with `noise`, in the latents' shape, a sample from their distribution."""

    def decode(self, latents: mx.array, strips: Strips | int | None = None) -> mx.array: ...

    def preview(self, latents: mx.array, longest: int) -> mx.array:
        """The picture, reduced so that neither side is longer than `longest` pixels, at a fraction of the work."""
