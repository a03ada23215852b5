"""Rotary position embeddings over several axes: tables, computed once for a layout of tokens, and their application."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.number[Any]]  # whole numbers, or scaled ones


class WrongPositions(ValueError):
    """Position ids, rotary axes and head size do not match."""


def rotary_table(positions: Positions, axes: Sequence[int], theta: float) -> mx.array:
    """The rotations of tokens at `positions` (…, token, axis), as an array (2, …, token, sum(axes) / 2, 2).

    Channel pairs (even, odd) rotate together, the first `axes[0]` channels by the first axis, and so on. The first half
    holds (cos, sin), which multiplies the even channel, the second (-sin, cos), which multiplies the odd one. Angles are
    computed in float64: a float32 angle of some thousand radians has lost its fraction.
    """
    if positions.shape[-1] != len(axes):
        raise WrongPositions(f"positions have {positions.shape[-1]} axes; the network rotates {len(axes)}")
    if any(size % 2 for size in axes):
        raise WrongPositions(f"rotary axes must have even sizes; they are {tuple(axes)}")
    tables = [_axis_table(positions[..., index], size, theta) for index, size in enumerate(axes)]
    return mx.array(np.concatenate(tables, axis=-2))


def _axis_table(positions: Positions, size: int, theta: float) -> NDArray[np.float32]:
    """One axis' part of a table. A picture has few distinct positions on an axis: sines are computed once for each."""
    distinct, which = np.unique(positions, return_inverse=True)
    angles = distinct[:, None] * theta ** (-np.arange(0, size, 2, dtype=np.float64) / size)
    cos, sin = np.cos(angles), np.sin(angles)
    pairs = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)]).astype(np.float32)
    return pairs[:, which.reshape(positions.shape)]


def rotate(x: mx.array, table: mx.array) -> mx.array:
    """Rotate heads (batch, token, …, head, channel) by a table over (token) or (batch, token).

    Both channels of a pair are one sum of two broadcast products, which compiles to a single kernel. The table is
    float32, and so are the products; only the result is rounded to the dtype of `x`.
    """
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    between = [1] * (x.ndim - 3)
    even, odd = (half.reshape(*half.shape[:-2], *between, *half.shape[-2:]) for half in table)
    rotated = pairs[..., :1] * even + pairs[..., 1:] * odd
    return rotated.astype(x.dtype).reshape(x.shape)
