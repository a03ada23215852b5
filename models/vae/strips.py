"""In what strips an autoencoder works on a picture, so that it holds no more than it may. No MLX."""

from dataclasses import dataclass

# Rows: lower strips would mostly compute the rows around them, which their neighbours compute too.
LEAST = 32
# Kept, and worked on in a strip as high as the picture; by whether convolutions unfold, and planes are computed again.
PLANES = {(False, False): (2, 15), (False, True): (1, 27), (True, False): (2, 34), (True, True): (1, 50)}


@dataclass(frozen=True)
class Strips:
    """So many rows at a time; `again`: the outermost block computes planes as often as they are needed, and keeps none."""

    rows: int
    again: bool = False

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"strips of {self.rows} rows were asked for, at least 1 is needed")

    @classmethod
    def within(cls, room: int, height: int, plane: int, unfolds: bool) -> "Strips":
        """The highest that hold about `room` bytes beyond the weights; `again` only where keeping leaves too little.

        `plane` is the picture in the channels of its outermost block, in bytes. That block holds most: others have
        twice the channels and a quarter of the pixels. It is counted in such planes, and its strips in their share.

        Keeping: the block's input, of twice the channels, turns strip by strip into as many hidden and residual ones,
        2 planes at any time. A strip makes a window 2, normed 2, hidden 1, residual 1. A GPU has three of them in
        work, not all of that at once, and the input above is let go two strips later: 15 is more than was measured.

        Again: 1 plane, the small input or the output. A strip makes doubled pixels 4.5, normed 2, hidden 1, normed 1,
        convolved 1, residual 1, their sum 1; in work three times, likewise: 27.

        A processor `unfolds` what it convolves to nine times its size, and has one strip in work: 34 and 50, measured.
        """
        for again in (False, True):
            strips = cls(height, again)
            # Halves of halves: most strips of all planes are of one height, for which a convolution is planned once.
            while strips.held(height, plane, unfolds) > room and strips.rows >= 2 * LEAST:
                strips = cls(-(-strips.rows // 2), again)
            if again or strips.held(height, plane, unfolds) <= room:
                return strips
        raise AssertionError("strips that compute again are the last resort")

    def held(self, height: int, plane: int, unfolds: bool) -> int:
        """The bytes that they hold, counted as `within` does."""
        kept, work = PLANES[unfolds, self.again]
        return kept * plane + work * plane * min(self.rows, height) // height
