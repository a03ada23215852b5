"""Two texts as the tokens of one. No MLX."""

from typing import NamedTuple


class Pair(NamedTuple):
    """A query and a document as one text, and for each token the text that it belongs to, 0 or 1."""

    ids: list[int]
    types: list[int]
