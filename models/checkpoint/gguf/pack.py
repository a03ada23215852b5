"""Codes, scales and offsets to the arrays of MLX's affine quantization: groups of 32, codes packed into 32-bit words."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.checkpoint.gguf.blocks import Bytes, Floats, Groups, unpack_blocks
from models.checkpoint.gguf.types import GROUP, TensorType


class Packed(NamedTuple):
    """Rows of a quantized layer. `error`: the largest difference from the values in the file."""

    weight: NDArray[np.uint32]
    scales: Floats
    biases: Floats
    error: float


def pack_rows(type_: TensorType, rows: Bytes) -> Packed:
    """Rows of a quantized tensor, [rows, bytes of a row]."""
    assert type_.packing is not None
    count = len(rows)
    groups = unpack_blocks(type_, rows.reshape(-1, type_.bytes))
    error = 0.0
    if not type_.packing.exact:
        groups, error = _regroup(groups)
    weight = _pack_codes(groups.codes.reshape(-1, GROUP), type_.packing.bits)
    return Packed(
        weight.reshape(count, -1), groups.scales.reshape(count, -1), groups.offsets.reshape(count, -1), error
    )


def _regroup(groups: Groups) -> tuple[Groups, float]:
    """8 bits for groups of 32, where the file has a scale for every 16."""
    values = groups.values().reshape(-1, 1, GROUP)
    low, high = values.min(axis=-1), values.max(axis=-1)
    scales = (high - low) / np.float32(255)
    steps = np.where(scales == 0, np.float32(1), scales)
    codes = np.rint((values - low[..., None]) / steps[..., None]).astype(np.uint8)
    regrouped = Groups(codes, scales, low)
    return regrouped, float(np.abs(regrouped.values() - values).max(initial=0))


def _pack_codes(codes: Bytes, bits: int) -> NDArray[np.uint32]:
    """[groups, 32] to words, the first code in the lowest bits."""
    if bits == 4:
        return np.ascontiguousarray(codes[:, ::2] | (codes[:, 1::2] << 4)).view("<u4")
    if bits == 5:
        eights = codes.reshape(-1, 8).astype(np.uint64) << np.arange(0, 40, 5, dtype=np.uint64)
        words = np.bitwise_or.reduce(eights, axis=-1)
        return np.ascontiguousarray(words[:, None].view(np.uint8)[:, :5]).reshape(len(codes), -1).view("<u4")
    assert bits == 8
    return np.ascontiguousarray(codes).view("<u4")
