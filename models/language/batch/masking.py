"""Keeps a batch of logits to the tokens that a bit mask a row allows."""

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray


@mx.compile
def _masked(logits: mx.array, mask: mx.array) -> mx.array:
    bits = (mask[..., None] >> mx.arange(32, dtype=mx.uint32)) & 1
    allowed = bits.reshape(mask.shape[0], -1)[:, : logits.shape[-1]]
    return mx.where(allowed, logits, -mx.inf)


def apply_bitmask(logits: mx.array, mask: NDArray[np.uint32]) -> mx.array:
    """`logits` [B, V] with minus infinity wherever the row of `mask` [B, ceil(V / 32)], low bits first, has a 0."""
    words = -(-logits.shape[-1] // 32)
    if mask.shape != (logits.shape[0], words):
        raise ValueError(
            f"a mask of {(logits.shape[0], words)} words goes with these logits, found {mask.shape}"
        )
    return _masked(logits, mx.array(mask.view(np.uint32)))
