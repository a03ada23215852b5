"""The strips in which an autoencoder works on a picture, chosen by the memory they may hold. No MLX: the serving side
estimates memory with it."""

from dataclasses import dataclass

# Rows. Lower strips would mostly recompute the halo that they share with their neighbours.
LEAST = 32
# Planes that are kept, and planes in work for a strip as high as the picture, by (unfolds, recompute).
PLANES = {(False, False): (2, 15), (False, True): (1, 27), (True, False): (2, 34), (True, True): (1, 50)}


@dataclass(frozen=True)
class Strips:
    """So many rows at a time. `recompute`: the outermost block keeps no intermediate results, and computes them as often
    as they are needed."""

    rows: int
    recompute: bool = False

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"strips of {self.rows} rows are not possible; at least 1 is needed")

    @classmethod
    def within(cls, room: int, height: int, plane: int, unfolds: bool) -> "Strips":
        """The highest that hold about `room` bytes beyond the weights; `recompute` only where keeping results leaves too
        little.

        `plane` is the picture in the channels of its outermost block, in bytes. That block holds most: others have
        twice the channels and a quarter of the pixels. Memory is counted in such planes, and strips in their share.

        Keeping: the block's input, with twice the channels, turns strip by strip into as many hidden and residual ones,
        2 planes at any time. A strip takes a window 2, normed 2, hidden 1, residual 1. A GPU has three of them in
        flight, not all of that at once, and the input above is released two strips later: 15 is above what was measured.

        Recomputing: 1 plane, the small input or the output. A strip takes doubled pixels 4.5, normed 2, hidden 1, normed
        1, convolved 1, residual 1, their sum 1; three times in flight, likewise: 27.

        A CPU `unfolds` the input of a convolution to nine times its size, and has one strip in flight: 34 and 50,
        measured.
        """
        for recompute in (False, True):
            strips = cls(height, recompute)
            # Halves of halves: most strips of all planes have one height, for which a convolution is planned once.
            while strips.held(height, plane, unfolds) > room and strips.rows >= 2 * LEAST:
                strips = cls(-(-strips.rows // 2), recompute)
            if recompute or strips.held(height, plane, unfolds) <= room:
                return strips
        raise AssertionError("strips that recompute are the last resort")

    def held(self, height: int, plane: int, unfolds: bool) -> int:
        """The bytes that they hold, counted as in `within`."""
        kept, work = PLANES[unfolds, self.recompute]
        return kept * plane + work * plane * min(self.rows, height) // height
