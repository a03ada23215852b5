"""Rotary positions over several axes: the tables, made once for a layout of tokens, and their application."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.integer[Any]]


class WrongPositions(ValueError):
    """Position ids, rotary axes and head size do not fit each other."""


def rotary_table(positions: Positions, axes: Sequence[int], theta: float) -> mx.array:
    """The rotations of tokens at `positions` (…, token, axis), as an array (2, …, token, sum(axes) / 2, 2).

    Channel pairs (even, odd) turn together, the first axis turning the first `axes[0]` channels and so on. The first
    half holds (cos, sin), which multiplies the even channel, the second (-sin, cos), which multiplies the odd one.
    Angles are float64 before they are rounded: a float32 angle of some thousand radians has lost its fraction.
    """
    if positions.shape[-1] != len(axes):
        raise WrongPositions(f"positions have {positions.shape[-1]} axes, the network rotates {len(axes)}")
    if any(size % 2 for size in axes):
        raise WrongPositions(f"rotary axes must have even sizes, found {tuple(axes)}")
    turned = [_turns(positions[..., index], size, theta) for index, size in enumerate(axes)]
    return mx.array(np.concatenate(turned, axis=-2))


def _turns(places: Positions, size: int, theta: float) -> NDArray[np.float32]:
    """One axis' part of a table. A picture's many tokens stand at few places: sines are made once for each."""
    distinct, which = np.unique(places, return_inverse=True)
    angles = distinct[:, None] * theta ** (-np.arange(0, size, 2, dtype=np.float64) / size)
    cos, sin = np.cos(angles), np.sin(angles)
    pairs = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)]).astype(np.float32)
    return pairs[:, which.reshape(places.shape)]


def rotate(x: mx.array, table: mx.array) -> mx.array:
    """Heads (batch, token, …, head, channel) turned by a table over (token) or (batch, token).

    Both channels of a pair are written as one sum of two broadcast products: compiled, that is a single kernel.
    The table is float32, so the products are too, and only the result is rounded to the stream's type.
    """
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    between = [1] * (x.ndim - 3)
    even, odd = (half.reshape(*half.shape[:-2], *between, *half.shape[-2:]) for half in table)
    turned = pairs[..., :1] * even + pairs[..., 1:] * odd
    return turned.astype(x.dtype).reshape(x.shape)
