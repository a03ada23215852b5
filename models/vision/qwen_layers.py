"""What the towers of Qwen2.5-VL and Qwen3-VL share: attention with positions of rows and columns, and the order of patches."""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from models.config import ConfigError
from models.layers.attention import softmax_attention
from models.layers.basic import attention

Grid = tuple[int, ...]
Ints = NDArray[np.int64]
Rotation = tuple[mx.array, mx.array]  # cosines and sines, [patch, half of the head]


def by_squares(height: int, width: int, merge: int) -> Ints:
    """The row and column of each patch, [patch, 2], in the order in which the processor lays them out."""
    rows, columns = np.indices((height, width))
    squares = np.stack([rows, columns], -1).reshape(height // merge, merge, width // merge, merge, 2)
    return squares.transpose(0, 2, 1, 3, 4).reshape(-1, 2)


def rotation(places: Ints, head_dim: int, theta: float) -> Rotation:
    """The first half of the rotated pairs turns with the row, the other with the column."""
    half = head_dim // 2
    inverse = theta ** -(np.arange(0, half, 2, dtype=np.float64) / half)
    angles = (places[..., None] * inverse).reshape(len(places), -1)
    return mx.array(np.cos(angles).astype(np.float32)), mx.array(np.sin(angles).astype(np.float32))


def rotate(x: mx.array, turns: Rotation) -> mx.array:
    """`x` [head, patch, channel]; the first half of the channels turns with the second."""
    cos, sin = turns
    first, second = mx.split(x.astype(mx.float32), 2, axis=-1)
    return mx.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


class Attention(nn.Module):
    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(size, 3 * size)
        self.proj = nn.Linear(size, size)

    def __call__(self, x: mx.array, turns: Rotation, windows: Sequence[mx.array] | None = None) -> mx.array:
        """`x` [patch, channel]. `windows`: patches that see each other alone, those of windows with as many patches in one
        array [window, patch]; None: all see all."""
        q, k, v = self.qkv(x).reshape(len(x), 3, self.heads, -1).transpose(1, 2, 0, 3)
        q, k = rotate(q, turns), rotate(k, turns)
        if windows is None:
            attended = softmax_attention(q[None], k[None], v[None], q.shape[-1] ** -0.5)[0]
        else:
            attended = self._by_windows(q, k, v, windows)
        return self.proj(attended.swapaxes(0, 1).flatten(1))

    def _by_windows(self, q: mx.array, k: mx.array, v: mx.array, windows: Sequence[mx.array]) -> mx.array:
        parts = []
        for patches in windows:
            mine = [x[:, patches].swapaxes(0, 1) for x in (q, k, v)]
            parts.append(attention(mine[0], mine[1], mine[2]).swapaxes(0, 1).flatten(1, 2))
        order = mx.argsort(mx.concatenate([patches.flatten() for patches in windows]))
        return mx.concatenate(parts, axis=1)[:, order]


def check_heads(where: str, size: int, heads: int, name: str = "num_heads") -> None:
    if size % heads or (size // heads) % 4:
        raise ConfigError(
            f"{where}: {name} is {heads}; hidden_size, {size}, has to be a multiple of four times as many"
        )
