"""A row that decodes alone on a processor, in caches of mlx-lm's own: with little to compute, fewer operations count.

Its tokens are written to its blocks when it gets company or ends.
"""

from collections.abc import Callable

import mlx.core as mx

from models.language.paged.network import PagedNetwork
from models.language.paged.table import Table

LONGEST = 2048  # tokens; what such a row holds, it holds twice


class Alone:
    def __init__(self, network: PagedNetwork, table: Table) -> None:
        self._network = network
        self._table = table
        self._cache = network.contiguous(table)
        self._written = table.length

    def logits(self, tokens: mx.array) -> mx.array:
        """Append a token [1]; the next-token logits, [1, vocabulary]."""
        logits = self._network.logits_of_one(tokens, self._cache)
        self._table.length += 1
        return logits

    def write(self) -> None:
        """Bring the blocks up to date."""
        self._network.write(self._table, self._cache, self._written)
        self._written = self._table.length


def maker(network: PagedNetwork) -> Callable[[Table], Alone | None]:
    """Makes rows alone, where that is faster."""
    if not network.has_contiguous:
        return lambda table: None
    # Caches of mlx-lm's rotate by a token's place.
    return lambda table: None if table.shift else Alone(network, table)
