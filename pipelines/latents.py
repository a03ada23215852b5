"""What lies between a seed and tokens: portable noise, and the positions that tokens are given.

Pictures are channels-last here as everywhere; patches are cut by `models.patches`. All is NumPy, so that it belongs
to no thread.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int32]

FIRST_REFERENCE = (
    10  # the T coordinate of FLUX.2's first reference picture, and the distance to each further one
)


class Noise:
    """The normal numbers that `torch.Generator("cpu").manual_seed(seed)` deals out, without torch.

    Successive draws continue one stream, as they do there: a pipeline draws what its reference draws, in the same
    shapes, order and precision. Half precisions are drawn in float32 and rounded; pass half=True and cast the result.
    """

    def __init__(self, seed: int) -> None:
        # Seeds are 64 bits wide there, but the generator takes the lower half of them.
        self._bits = np.random.RandomState(seed & 0xFFFFFFFF)
        self._spare: float | None = None

    def normal(self, shape: Sequence[int], half: bool = False) -> Floats:
        size = math.prod(shape)
        drawn = self._blocks(size, half) if size >= 16 else self._pairs(size)
        return drawn.reshape(tuple(shape))

    def pictures(self, count: int, channels: int, height: int, width: int, half: bool = False) -> Floats:
        """Latent noise [count, height, width, channels], drawn channels-first as the references draw it."""
        drawn = self.normal((count, channels, height, width), half)
        return np.ascontiguousarray(drawn.transpose(0, 2, 3, 1))

    def _blocks(self, size: int, half: bool) -> Floats:
        drawn = np.empty(size, np.float32)
        whole = size - size % 16
        # A broken block's uniforms are drawn in float32 only; they go unused but move the stream on.
        uniforms = self._uniforms(whole if half else size)
        drawn[:whole] = _box_muller(uniforms[:whole])
        if size > whole:  # the last 16 are made again, from fresh numbers
            drawn[-16:] = _box_muller(self._uniforms(16))
        return drawn

    def _uniforms(self, size: int) -> Floats:
        words = self._bits.randint(0, 2**32, size, dtype=np.uint32)
        return (words & 0xFFFFFF).astype(np.float32) * np.float32(2**-24)

    def _pairs(self, size: int) -> Floats:
        """Fewer than 16 come one by one, in double precision, two from each pair of uniforms."""
        drawn = np.empty(size, np.float32)
        for index in range(size):
            if self._spare is not None:
                drawn[index], self._spare = self._spare, None
                continue
            turn, length = self._double(), self._double()
            radius = math.sqrt(-2.0 * math.log1p(-length))
            drawn[index] = radius * math.cos(2.0 * math.pi * turn)
            self._spare = radius * math.sin(2.0 * math.pi * turn)
        return drawn

    def _double(self) -> float:
        high, low = (int(word) for word in self._bits.randint(0, 2**32, 2, dtype=np.uint32))
        return ((high << 32 | low) & (2**53 - 1)) / 2**53


def _box_muller(uniforms: Floats) -> Floats:
    """Blocks of 16: the first eight give the radius, the last eight the angle; cosines first, then sines."""
    blocks = uniforms.reshape(-1, 2, 8)
    radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - blocks[:, 0]))
    angle = np.float32(2 * math.pi) * blocks[:, 1]  # rounded to float32 before the sine, as there
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)


def grid(*axes: range) -> Ids:
    """Every combination of the axes' values, the last axis running fastest: [product of lengths, number of axes]."""
    mesh = np.meshgrid(*(np.arange(axis.start, axis.stop, dtype=np.int32) for axis in axes), indexing="ij")
    return np.stack(mesh, axis=-1).reshape(-1, len(axes))


def flux_text_ids(tokens: int) -> Ids:
    return np.zeros((tokens, 3), np.int32)


def flux_image_ids(rows: int, columns: int) -> Ids:
    return grid(range(1), range(rows), range(columns))


def flux2_text_ids(tokens: int) -> Ids:
    """(T, H, W, L): text counts in L."""
    return grid(range(1), range(1), range(1), range(tokens))


def flux2_image_ids(rows: int, columns: int) -> Ids:
    return grid(range(1), range(rows), range(columns), range(1))


def flux2_reference_ids(sizes: Sequence[tuple[int, int]]) -> Ids:
    """Reference pictures of (rows, columns) patches, one after another, each at a T of its own."""
    times = [FIRST_REFERENCE * (index + 1) for index in range(len(sizes))]
    return np.concatenate(
        [
            grid(range(time, time + 1), range(rows), range(columns), range(1))
            for time, (rows, columns) in zip(times, sizes, strict=True)
        ]
    )
