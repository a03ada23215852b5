"""Images that need not be in memory at once: rows are requested by range, and are in memory or computed on request.

Convolutional networks run over them strip by strip, with the same result as over the whole: a window includes the
neighbouring rows that a kernel needs, and zeros are padded only at the image's own edges. A whole image is one strip
without a scheduler, so both cases share one code. Arrays are [n, rows, width, channels].
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True)
class RowWindow:
    """Some rows of an image of `height` rows, from row `top` on."""

    rows: mx.array
    top: int
    height: int

    @property
    def bottom(self) -> int:
        return self.top + self.rows.shape[1]

    def map(self, function: Callable[[mx.array], mx.array]) -> "RowWindow":
        """Pixel by pixel."""
        return RowWindow(function(self.rows), self.top, self.height)

    def crop(self, top: int, bottom: int) -> "RowWindow":
        if (top, bottom) == (self.top, self.bottom):
            return self
        return RowWindow(self.rows[:, top - self.top : bottom - self.top], top, self.height)

    def padded(self) -> mx.array:
        """The rows, with a row of zeros where the window touches the image's upper or lower edge."""
        above, below = int(self.top == 0), int(self.bottom == self.height)
        return mx.pad(self.rows, [(0, 0), (above, below), (0, 0), (0, 0)]) if above or below else self.rows

    def convolve(self, weight: mx.array, bias: mx.array | None = None) -> "RowWindow":
        """A 3 x 3 convolution: a window loses a row at each end that is not an edge of the image.

        Callers that pass no bias add it in a later pass that is needed anyway.
        """
        if (self.top, self.bottom) == (0, self.height):
            convolved, top = mx.conv2d(self.rows, weight, padding=1), 0
        else:
            convolved, top = mx.conv2d(self.padded(), weight, padding=(0, 1)), self.top + (self.top > 0)
        return RowWindow(convolved if bias is None else convolved + bias, top, self.height)


class TileScheduler:
    """Keeps up to three strips of `rows` rows in flight on a GPU, so it stays busy with bounded memory. On the CPU strips
    run one at a time."""

    AHEAD = 2

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._in_flight: deque[tuple[mx.array, ...]] = deque()

    def submit(self, *strip: mx.array) -> None:
        if mx.default_device() == mx.cpu:
            mx.eval(*strip)
            return
        mx.async_eval(*strip)
        self._in_flight.append(strip)
        if len(self._in_flight) > self.AHEAD:
            mx.eval(*self._in_flight.popleft())


class TiledImage(ABC):
    """An image by its rows. Without a scheduler it is computed as a whole, when MLX evaluates it."""

    height: int
    scheduler: TileScheduler | None

    @abstractmethod
    def window(self, top: int, bottom: int) -> RowWindow:
        """Rows `top` to `bottom`, without those outside the image."""

    @abstractmethod
    def release(self, above: int) -> None:
        """Rows above this one are not requested any more."""

    def strips(self) -> Iterator[tuple[int, int]]:
        step = self.scheduler.rows if self.scheduler else self.height
        for top in range(0, self.height, step):
            yield top, min(top + step, self.height)


class Materialized(TiledImage):
    """Rows in memory, as strips from top to bottom."""

    def __init__(self, strips: list[mx.array], scheduler: TileScheduler | None = None) -> None:
        self._strips: list[tuple[int, mx.array]] = []
        self.height, self.scheduler = 0, scheduler
        for strip in strips:
            self._strips.append((self.height, strip))
            self.height += strip.shape[1]

    def window(self, top: int, bottom: int) -> RowWindow:
        top, bottom = max(top, 0), min(bottom, self.height)
        parts = []
        for start, strip in self._strips:
            first, last = max(top - start, 0), min(bottom - start, strip.shape[1])
            if first < last:
                parts.append(strip if last - first == strip.shape[1] else strip[:, first:last])
        return RowWindow(parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=1), top, self.height)

    def release(self, above: int) -> None:
        self._strips = [(start, strip) for start, strip in self._strips if start + strip.shape[1] > above]

    def whole(self) -> mx.array:
        return self.window(0, self.height).rows


SourceRows = Callable[[int, int], tuple[int, int]]


def halo(rows: int) -> SourceRows:
    """The source rows for an operation that reads so many rows above and below each of its own."""
    return lambda top, bottom: (top - rows, bottom + rows)


class Lazy(TiledImage):
    """Rows computed from other images whenever they are requested.

    Each source comes with the rows of it that are needed to make rows `top` to `bottom`; `make` may return more.
    """

    def __init__(
        self,
        make: Callable[..., RowWindow],
        *sources: tuple[TiledImage, SourceRows],
        height: int | None = None,
    ) -> None:
        self._make, self._sources = make, sources
        first = sources[0][0]
        self.height = first.height if height is None else height
        self.scheduler = first.scheduler

    def window(self, top: int, bottom: int) -> RowWindow:
        top, bottom = max(top, 0), min(bottom, self.height)
        windows = [source.window(*source_rows(top, bottom)) for source, source_rows in self._sources]
        return self._make(*windows).crop(top, bottom)

    def release(self, above: int) -> None:
        for source, source_rows in self._sources:
            source.release(source_rows(above, above)[0])


def materialize(image: TiledImage, release: bool = True) -> Materialized:
    """Compute an image's rows once, strip by strip; `release` frees the source's rows on the way."""
    return image if isinstance(image, Materialized) else materialize_together([image], release)[0]


def materialize_together(images: Sequence[TiledImage], release: bool = True) -> list[Materialized]:
    """The same for images made from one source; the first of them has the widest halo."""
    first, strips = images[0], []
    for top, bottom in first.strips():
        strip = [image.window(top, bottom).rows for image in images]
        strips.append(strip)
        if first.scheduler:
            first.scheduler.submit(*strip)
            if release:
                first.release(bottom)
    return [Materialized(list(column), first.scheduler) for column in zip(*strips, strict=True)]
