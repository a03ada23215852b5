"""A picture that need not be in memory at once: rows are asked for, and are stored, or computed when they are.

Convolutional networks run over planes strip by strip, and give what they give over the whole: a window brings the
neighbouring rows that a kernel reaches into, and the edge of the picture is padded only where it is the edge. The
whole picture is a plane without a pace, of one strip, so there is one code for both. Arrays are
[n, rows, width, channels].
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True)
class Window:
    """Some rows of a picture of `height` rows, from row `top` on."""

    rows: mx.array
    top: int
    height: int

    @property
    def bottom(self) -> int:
        return self.top + self.rows.shape[1]

    def map(self, function: Callable[[mx.array], mx.array]) -> "Window":
        """Pixel by pixel."""
        return Window(function(self.rows), self.top, self.height)

    def crop(self, top: int, bottom: int) -> "Window":
        if (top, bottom) == (self.top, self.bottom):
            return self
        return Window(self.rows[:, top - self.top : bottom - self.top], top, self.height)

    def edged(self) -> mx.array:
        """The rows, and one of zeros wherever the window meets the picture's upper or lower edge."""
        above, below = int(self.top == 0), int(self.bottom == self.height)
        return mx.pad(self.rows, [(0, 0), (above, below), (0, 0), (0, 0)]) if above or below else self.rows

    def convolve(self, weight: mx.array, bias: mx.array | None = None) -> "Window":
        """A 3 x 3 convolution: inside the picture a window loses a row at either end, at its edges none.

        Without a bias: whoever takes the window accounts for it in a pass that is made anyway.
        """
        if (self.top, self.bottom) == (0, self.height):
            convolved, top = mx.conv2d(self.rows, weight, padding=1), 0
        else:
            convolved, top = mx.conv2d(self.edged(), weight, padding=(0, 1)), self.top + (self.top > 0)
        return Window(convolved if bias is None else convolved + bias, top, self.height)


class Pace:
    """Strips of so many rows. A GPU is handed strips while it works on those before, three at most: it never waits for the
    next, and never holds what more than these need. A processor, which has nothing to wait for, holds one."""

    AHEAD = 2

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._begun: deque[tuple[mx.array, ...]] = deque()

    def follow(self, *strip: mx.array) -> None:
        if mx.default_device() == mx.cpu:
            mx.eval(*strip)
            return
        mx.async_eval(*strip)
        self._begun.append(strip)
        if len(self._begun) > self.AHEAD:
            mx.eval(*self._begun.popleft())


class Plane(ABC):
    """A picture by its rows. Without a pace it is computed lazily, as a whole."""

    height: int
    pace: Pace | None

    @abstractmethod
    def window(self, top: int, bottom: int) -> Window:
        """Rows `top` to `bottom`; what lies outside the picture is left out."""

    @abstractmethod
    def release(self, above: int) -> None:
        """No row above this one will be asked for again."""

    def strips(self) -> Iterator[tuple[int, int]]:
        step = self.pace.rows if self.pace else self.height
        for top in range(0, self.height, step):
            yield top, min(top + step, self.height)


class Stored(Plane):
    """Rows that are in memory, as pieces from top to bottom."""

    def __init__(self, pieces: list[mx.array], pace: Pace | None = None) -> None:
        self._pieces: list[tuple[int, mx.array]] = []
        self.height, self.pace = 0, pace
        for piece in pieces:
            self._pieces.append((self.height, piece))
            self.height += piece.shape[1]

    def window(self, top: int, bottom: int) -> Window:
        top, bottom = max(top, 0), min(bottom, self.height)
        parts = []
        for start, piece in self._pieces:
            first, last = max(top - start, 0), min(bottom - start, piece.shape[1])
            if first < last:
                parts.append(piece if last - first == piece.shape[1] else piece[:, first:last])
        return Window(parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=1), top, self.height)

    def release(self, above: int) -> None:
        self._pieces = [(start, piece) for start, piece in self._pieces if start + piece.shape[1] > above]

    def whole(self) -> mx.array:
        return self.window(0, self.height).rows


Needs = Callable[[int, int], tuple[int, int]]


def reach(rows: int) -> Needs:
    """What is needed of a source to make as many rows by looking so far up and down."""
    return lambda top, bottom: (top - rows, bottom + rows)


class Computed(Plane):
    """Rows made from other planes' rows whenever they are asked for.

    Each source comes with what is needed of it to make rows `top` to `bottom`; `make` may make more than was asked.
    """

    def __init__(
        self, make: Callable[..., Window], *sources: tuple[Plane, Needs], height: int | None = None
    ) -> None:
        self._make, self._sources = make, sources
        first = sources[0][0]
        self.height = first.height if height is None else height
        self.pace = first.pace

    def window(self, top: int, bottom: int) -> Window:
        top, bottom = max(top, 0), min(bottom, self.height)
        windows = [source.window(*needs(top, bottom)) for source, needs in self._sources]
        return self._make(*windows).crop(top, bottom)

    def release(self, above: int) -> None:
        for source, needs in self._sources:
            source.release(needs(above, above)[0])


def store(plane: Plane, release: bool = True) -> Stored:
    """Compute a plane's rows once, strip by strip, letting go of what they were made from unless told not to."""
    return plane if isinstance(plane, Stored) else store_together([plane], release)[0]


def store_together(planes: Sequence[Plane], release: bool = True) -> list[Stored]:
    """The same for planes made from one, of which the first looks farthest around."""
    first, pieces = planes[0], []
    for top, bottom in first.strips():
        strip = [plane.window(top, bottom).rows for plane in planes]
        pieces.append(strip)
        if first.pace:
            first.pace.follow(*strip)
            if release:
                first.release(bottom)
    return [Stored(list(parts), first.pace) for parts in zip(*pieces, strict=True)]
