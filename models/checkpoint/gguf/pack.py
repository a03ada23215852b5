"""Codes, scales and offsets to the arrays of MLX's affine quantization: groups of 32, codes packed into 32-bit words."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.checkpoint.gguf.blocks import unpack_blocks
from models.checkpoint.gguf.groups import Bytes, Floats, Groups
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
    # A column for each group: numpy is many times slower along rows of 32.
    values = np.ascontiguousarray(groups.values().reshape(-1, GROUP).T)
    low = values.min(axis=0)
    scales = (values.max(axis=0) - low) / np.float32(255)
    steps = (values - low) / np.where(scales == 0, np.float32(1), scales)
    np.rint(steps, out=steps)
    codes = np.ascontiguousarray(steps.astype(np.uint8).T)
    # What the codes stand for, less what they should, in place: large arrays take longer to make than to fill.
    steps *= scales
    steps += low
    steps -= values
    return Groups(codes, scales, low), float(max(steps.max(initial=0), -steps.min(initial=0)))


def _pack_codes(codes: Bytes, bits: int) -> NDArray[np.uint32]:
    """[groups, 32] to words, the first code in the lowest bits."""
    if bits == 8:
        return np.ascontiguousarray(codes).view("<u4")
    if bits in (2, 4):
        packed = codes[:, ::2] | (codes[:, 1::2] << bits)
        if bits == 2:
            packed = packed[:, ::2] | (packed[:, 1::2] << 4)
        return np.ascontiguousarray(packed).view("<u4")
    assert bits in (5, 6)
    pairs = codes[:, ::2] | (codes[:, 1::2].astype(np.uint16) << bits)
    fours = pairs[:, ::2] | (pairs[:, 1::2].astype(np.uint32) << 2 * bits)
    eights = fours[:, ::2] | (fours[:, 1::2].astype(np.uint64) << 4 * bits)
    octets = np.ascontiguousarray(eights)[..., None].view(np.uint8)[..., :bits]
    return np.ascontiguousarray(octets).reshape(len(codes), -1).view("<u4")
