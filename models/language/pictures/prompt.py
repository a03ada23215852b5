"""The pictures of one prompt, and where they are in it. No MLX: prompts are made where requests are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.language.pictures.tokens import picture_token
from models.vision.interface import Positions, SeenPicture, VisionModel


class MisplacedPictures(ValueError):
    """The rows of the pictures and the places for them in the prompt do not match."""


@dataclass(frozen=True, eq=False)
class PromptPictures:
    by_digest: Mapping[bytes, SeenPicture]
    positions: Positions | None  # None: counted one by one
    # Runs of rows (first, last + 1) that attend to each other in both directions.
    two_way: Sequence[tuple[int, int]] = field(default=())

    @property
    def shift(self) -> int:
        """What is added to the place of a token after the prompt to get its position."""
        return 0 if self.positions is None else self.positions.offset

    @property
    def nbytes(self) -> int:
        return sum(picture.pixels.nbytes for picture in self.by_digest.values())

    def positions_of(self, first: int, count: int) -> NDArray[np.int32]:
        """Of the tokens from `first` on, three each."""
        return positions_of(self.positions, first, count)

    def whole(self, end: int) -> int:
        """`end` of a chunk, moved behind the rows that it would separate."""
        return next((last for first, last in self.two_way if first < end < last), end)


def positions_of(positions: Positions | None, first: int, count: int) -> NDArray[np.int32]:
    axes = np.empty((0, 3), np.int32) if positions is None else positions.axes[first : first + count]
    places = np.arange(first + len(axes), first + count, dtype=np.int32)
    later = places + (0 if positions is None else positions.offset)
    return np.concatenate([axes, np.repeat(later[:, None], 3, axis=1)])


def with_pictures(
    tokens: Sequence[int], pictures: Sequence[SeenPicture], vision: VisionModel
) -> tuple[list[int], PromptPictures]:
    """The prompt in which each placeholder has become a token of a picture's row."""
    places = [at for at, token in enumerate(tokens) if token == vision.placeholder]
    rows = [(picture, row) for picture in pictures for row in range(picture.tokens)]
    if len(places) != len(rows):
        raise MisplacedPictures(
            f"the prompt has {len(places)} places for rows of pictures, and the pictures have {len(rows)} rows"
        )
    if places and places[-1] == len(tokens) - 1:
        raise MisplacedPictures("the prompt ends with a picture; some text must follow it")
    prompt = list(tokens)
    for at, (picture, row) in zip(places, rows, strict=True):
        prompt[at] = picture_token(picture.digest, row)
    by_digest = {picture.digest: picture for picture in pictures}
    positions = vision.positions(tokens, pictures)
    two_way = _runs(places, pictures) if vision.two_way else ()
    return prompt, PromptPictures(by_digest, positions, two_way)


def _runs(places: Sequence[int], pictures: Sequence[SeenPicture]) -> list[tuple[int, int]]:
    """Uninterrupted rows of each picture."""
    runs: list[tuple[int, int]] = []
    begin = 0
    for picture in pictures:
        own = np.array(places[begin : begin + picture.tokens])
        begin += picture.tokens
        for run in np.split(own, np.flatnonzero(np.diff(own) != 1) + 1):
            if len(run):
                runs.append((int(run[0]), int(run[-1]) + 1))
    return runs
