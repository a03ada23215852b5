"""Values by groups with a scale and an offset each, and what the readers of all types of blocks share. numpy alone."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.integer[Any]]
Floats: TypeAlias = NDArray[np.float32]


class Groups(NamedTuple):
    """`codes` [blocks, groups, values of a group]; `scales` and `offsets` [blocks, groups]."""

    codes: Bytes
    scales: Floats
    offsets: Floats

    def values(self) -> Floats:
        return self.codes * self.scales[..., None] + self.offsets[..., None]


def half(blocks: Bytes, at: int) -> Floats:
    """A number of 16 bits in each block, as a column."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def planes(packed: Bytes, shifts: Sequence[int]) -> Bytes:
    """Bytes [..., 1, n] shifted by each of `shifts`: [..., shifts, n]."""
    return packed >> np.array(shifts, dtype=np.uint8)[:, None]
