"""Blocks of the IQ types taken apart: rows of a codebook, with signs or an offset, by groups of 16 or 32 values. And those of
the ternary types, whose codes are 0, 1 and 2."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from models.checkpoint.gguf.codebooks import codebook, signs
from models.checkpoint.gguf.groups import Bytes, Floats, Groups, half, planes

# Added to a signed value, so that it is a code: a power of two, whose product with a scale is exact.
_MIDDLE = 64
_BITS = tuple(range(8))


def _iq2_xxs(blocks: Bytes) -> Groups:
    words = _view(blocks[:, 2:], "<u4").reshape(-1, 8, 2)
    rows = np.ascontiguousarray(words[..., 0]).view(np.uint8).reshape(-1, 8, 4)
    scales = half(blocks, 0) * (np.float32(0.5) + _factors(words[..., 1])) * np.float32(0.25)
    return _signed(codebook("IQ2_XXS")[rows], _packed_signs(words[..., 1]), scales)


def _iq2_xs(blocks: Bytes) -> Groups:
    numbers = _view(blocks[:, 2:66], "<u2").reshape(-1, 16, 2)
    scales = half(blocks, 0) * (np.float32(0.5) + _pairs(blocks[:, 66:])) * np.float32(0.25)
    return _signed(codebook("IQ2_XS")[numbers & 511], signs()[numbers >> 9], scales)


def _iq2_s(blocks: Bytes) -> Groups:
    high = (_split(blocks[:, 66:74], (0, 2, 4, 6)) & 3).reshape(-1, 32)
    rows = codebook("IQ2_S")[blocks[:, 2:34] | high.astype(np.uint16) << 8]
    scales = half(blocks, 0) * (np.float32(0.5) + _pairs(blocks[:, 74:])) * np.float32(0.25)
    return _signed(rows, _stored_signs(blocks[:, 34:66]), scales)


def _iq3_xxs(blocks: Bytes) -> Groups:
    """All values are even: half of one takes 6 bits."""
    words = _view(blocks[:, 66:], "<u4")
    scales = half(blocks, 0) * (np.float32(0.5) + _factors(words))
    values = codebook("IQ3_XXS")[blocks[:, 2:66]].reshape(-1, 8, 32) * _packed_signs(words).reshape(-1, 8, 32)
    return Groups((values // 2 + 32).astype(np.uint8), scales, -32 * scales)


def _iq3_s(blocks: Bytes) -> Groups:
    """All values are odd, up to 15: half of one more takes 4 bits."""
    high = (_split(blocks[:, 66:74], _BITS) & 1).reshape(-1, 64)
    rows = codebook("IQ3_S")[blocks[:, 2:66] | high.astype(np.uint16) << 8]
    scales = half(blocks, 0) * (1 + 2 * _pairs(blocks[:, 106:]))
    values = rows.reshape(-1, 8, 32) * _stored_signs(blocks[:, 74:106]).reshape(-1, 8, 32)
    return Groups(((values + 15) // 2).astype(np.uint8), 2 * scales, -15 * scales)


def _iq1_s(blocks: Bytes) -> Groups:
    """Each group is moved up or down by an eighth of a step."""
    words = _view(blocks[:, 34:], "<u2")
    high = words[..., None] >> np.array((0, 3, 6, 9), np.uint16) & 7
    rows = codebook("IQ1")[blocks[:, 2:34] | (high << 8).reshape(-1, 32)]
    scales = half(blocks, 0) * (2 * (words >> 12 & 7) + 1).astype(np.float32)
    shift = np.where(words & 0x8000, np.float32(-1.125), np.float32(-0.875))
    return Groups((rows + 1).astype(np.uint8).reshape(-1, 8, 32), scales, scales * shift)


def _iq1_m(blocks: Bytes) -> Groups:
    """Each eight values are moved up or down by an eighth of a step; the scale of the block lies in four pieces."""
    words = _view(blocks[:, 48:], "<u2")
    pieces = (words & 0xF000) >> np.array((12, 8, 4, 0), np.uint16)
    block_scales = np.bitwise_or.reduce(pieces, axis=1, keepdims=True).view("<f2").astype(np.float32)
    steps = (words[..., None] >> np.array((0, 3, 6, 9), np.uint16) & 7).reshape(-1, 16)
    high = (_split(blocks[:, 32:48], (0, 4)) & 15).reshape(-1, 32)
    rows = codebook("IQ1")[blocks[:, :32] | (high & 7).astype(np.uint16) << 8]
    eighths = 8 * rows + np.where(high & 8, -1, 1)[..., None]
    scales = block_scales * (2 * steps + 1).astype(np.float32) / np.float32(8)
    return Groups((eighths + _MIDDLE).astype(np.uint8).reshape(-1, 16, 16), scales, -_MIDDLE * scales)


def _tq1_0(blocks: Bytes) -> Groups:
    """Five codes a byte, as digits of base 3 behind the point."""
    parts = ((slice(0, 32), 5), (slice(32, 48), 5), (slice(48, 52), 4))
    digits = [_powers_of_3(blocks[:, part], count) for part, count in parts]
    return _ternary(np.concatenate(digits, axis=1).astype(np.uint16) * 3 >> 8, half(blocks, 52))


def _tq2_0(blocks: Bytes) -> Groups:
    return _ternary(planes(blocks[:, :64].reshape(-1, 2, 1, 32), (0, 2, 4, 6)) & 3, half(blocks, 64))


def _powers_of_3(packed: Bytes, count: int) -> Bytes:
    powers = np.array([3**power for power in range(count)], np.uint8)
    return (packed[:, None] * powers[:, None]).reshape(len(packed), -1)


def _ternary(codes: Bytes, block_scales: Floats) -> Groups:
    scales = np.repeat(block_scales, 8, axis=1)
    return Groups(codes.astype(np.uint8).reshape(-1, 8, 32), scales, -scales)


def _signed(rows: Bytes, signs: Bytes, scales: Floats) -> Groups:
    codes = (rows * signs + _MIDDLE).astype(np.uint8)
    return Groups(codes.reshape(*scales.shape, -1), scales, -_MIDDLE * scales)


def _packed_signs(words: Bytes) -> Bytes:
    """Of each word, four times 7 bits: [blocks, words, 4, 8]."""
    return signs()[words[..., None] >> np.array((0, 7, 14, 21), np.uint32) & 127]


def _stored_signs(packed: Bytes) -> Bytes:
    """A bit for each value: [blocks, bytes, 8]."""
    return 1 - 2 * (_split(packed, _BITS) & 1).astype(np.int16)


def _factors(words: Bytes) -> Floats:
    return (words >> 28).astype(np.float32)


def _split(packed: Bytes, shifts: Sequence[int]) -> Bytes:
    """Each byte shifted by each of `shifts`, in a last dimension of its own."""
    return packed[..., None] >> np.array(shifts, np.uint8)


def _pairs(packed: Bytes) -> Floats:
    """Two numbers of 4 bits in each byte."""
    return (_split(packed, (0, 4)) & 15).reshape(len(packed), -1).astype(np.float32)


def _view(packed: Bytes, form: str) -> Bytes:
    return np.ascontiguousarray(packed).view(form)


UNPACK: Mapping[str, Callable[[Bytes], Groups]] = {
    "IQ1_S": _iq1_s, "IQ1_M": _iq1_m, "IQ2_XXS": _iq2_xxs, "IQ2_XS": _iq2_xs, "IQ2_S": _iq2_s, "IQ3_XXS": _iq3_xxs,
    "IQ3_S": _iq3_s, "TQ1_0": _tq1_0, "TQ2_0": _tq2_0,
}  # fmt: skip
