"""From a seed to tokens: portable noise, and position ids.

Pictures are channels-last; patches are made by `models.layers.patchify`. Everything is NumPy, which is not bound to a thread.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.threads import Threads

Floats = NDArray[np.float32]
Words = NDArray[np.uint32]
Ids = NDArray[np.int32]
Halves = NDArray[np.float32]  # of positions

THREADS = Threads("noise")
BLOCK = 16
HALF = np.dtype("V32")  # half a block: eight numbers, moved as one
PART = 2**16  # numbers made at a time: they fit a core's cache, and are worth a thread
LINE = 8  # channels transposed at a time, so that each cache line is written once

FIRST_REFERENCE = (
    10  # the T coordinate of FLUX.2's first reference picture, and the distance to each further one
)
FLUX3_DISTANCE = np.float32(0.5)  # of FLUX.3's rows and columns


class Noise:
    """The normal numbers of `torch.Generator("cpu").manual_seed(seed)`, without torch.

    Successive calls continue one stream, as in torch: a pipeline draws what its reference draws, in the same shapes, order
    and precision. Half precision is drawn in float32 and rounded: pass half=True and cast the result.
    """

    def __init__(self, seed: int) -> None:
        # torch's seeds have 64 bits, but its generator uses the lower 32.
        self._bits = np.random.RandomState(seed & 0xFFFFFFFF)
        self._spare: float | None = None

    def normal(self, shape: Sequence[int], half: bool = False) -> Floats:
        size = math.prod(shape)
        drawn = self._blocks(size, half) if size >= BLOCK else self._pairs(size)
        return drawn.reshape(tuple(shape))

    def pictures(self, count: int, channels: int, height: int, width: int, half: bool = False) -> Floats:
        """Latent noise [count, height, width, channels], drawn channels-first as the references draw it."""
        drawn = self.normal((count, channels, height, width), half).transpose(0, 2, 3, 1)
        pictures = np.empty(drawn.shape, np.float32)
        for first in range(0, channels, LINE):
            pictures[..., first : first + LINE] = drawn[..., first : first + LINE]
        return pictures

    def _blocks(self, size: int, half: bool) -> Floats:
        drawn = np.empty(size, np.float32)
        whole = size - size % BLOCK
        THREADS.spread(_box_muller, self._parts(drawn[:whole]), -(-whole // PART))
        if size > whole:
            # In float32 an incomplete block draws its words; they are not used, but advance the stream.
            self._words(0 if half else size - whole)
            # The last 16 numbers are drawn again.
            _box_muller((self._words(BLOCK), drawn[-BLOCK:]))
        return drawn

    def _parts(self, drawn: Floats) -> Iterator[tuple[Words, Floats]]:
        for start in range(0, len(drawn), PART):
            part = drawn[start : start + PART]
            yield self._words(len(part)), part

    def _words(self, size: int) -> Words:
        return self._bits.randint(0, 2**32, size, dtype=np.uint32)

    def _pairs(self, size: int) -> Floats:
        """Fewer than 16 numbers are drawn one by one, in double precision, two from each pair of uniforms."""
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
        high, low = (int(word) for word in self._words(2))
        return ((high << 32 | low) & (2**53 - 1)) / 2**53


def _box_muller(part: tuple[Words, Floats]) -> None:
    """Words to normal numbers, in blocks of 16: the first eight give the radius, the last eight the angle; the result has the
    cosines first, then the sines. All radii and all angles are computed side by side, and memory is reused: new memory
    costs more than the arithmetic."""
    words, drawn = part
    halves = np.ascontiguousarray(words.view(HALF).reshape(-1, 2).T).view(np.uint32)
    halves &= 0xFFFFFF
    radius, angle = uniforms = halves.view(np.int32).astype(np.float32)
    uniforms *= np.float32(2**-24)
    np.subtract(np.float32(1), radius, out=radius)
    np.log(radius, out=radius)
    radius *= np.float32(-2)
    np.sqrt(radius, out=radius)
    angle *= np.float32(2 * math.pi)  # rounded to float32 before the sine, as in torch
    waves = halves.view(np.float32)  # the words are not needed any more
    np.cos(angle, out=waves[0])
    np.sin(angle, out=waves[1])
    waves *= radius
    drawn.view(HALF).reshape(-1, 2)[:] = waves.view(HALF).T


def grid(*axes: range) -> Ids:
    """All combinations of the axes' values, the last axis fastest: [product of lengths, number of axes]."""
    mesh = np.meshgrid(*(np.arange(axis.start, axis.stop, dtype=np.int32) for axis in axes), indexing="ij")
    return np.stack(mesh, axis=-1).reshape(-1, len(axes))


def flux_text_ids(tokens: int) -> Ids:
    return np.zeros((tokens, 3), np.int32)


def flux_image_ids(rows: int, columns: int) -> Ids:
    return grid(range(1), range(rows), range(columns))


def flux_reference_ids(rows: int, columns: int) -> Ids:
    return grid(range(1, 2), range(rows), range(columns))


def flux2_text_ids(tokens: int) -> Ids:
    """(T, H, W, L): text counts in L."""
    return grid(range(1), range(1), range(1), range(tokens))


def flux2_image_ids(rows: int, columns: int) -> Ids:
    return grid(range(1), range(rows), range(columns), range(1))


def flux2_reference_ids(sizes: Sequence[tuple[int, int]]) -> Ids:
    """Reference pictures of (rows, columns) patches, one after another, each with its own T."""
    times = [FIRST_REFERENCE * (index + 1) for index in range(len(sizes))]
    return np.concatenate(
        [
            grid(range(time, time + 1), range(rows), range(columns), range(1))
            for time, (rows, columns) in zip(times, sizes, strict=True)
        ]
    )


def flux3_image_ids(rows: int, columns: int, index: int = 0) -> Halves:
    """(T, H, W, L): rows and columns stand half as far apart as in FLUX.2, pictures differ in L."""
    ids = grid(range(1), range(rows), range(columns), range(index, index + 1)).astype(np.float32)
    ids[:, 1:3] *= FLUX3_DISTANCE
    return ids


def flux3_reference_ids(sizes: Sequence[tuple[int, int]]) -> Halves:
    """Reference pictures of (rows, columns) patches, one after another, counted down from -1 in L."""
    return np.concatenate([flux3_image_ids(*size, -index) for index, size in enumerate(sizes, start=1)])
