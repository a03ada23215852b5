"""Quantized blocks taken apart: value = code * scale + offset, by groups of 16 or 32 values. numpy alone.

Each function takes blocks as rows of bytes. Scales and offsets are float32, in which they are the products that the format
defines, without rounding.
"""

from collections.abc import Callable

import numpy as np

from models.checkpoint.gguf import codebook_blocks
from models.checkpoint.gguf.groups import Bytes, Floats, Groups, half, planes
from models.checkpoint.gguf.types import BF16, F16, F32, TensorType

# The steps of IQ4_NL and IQ4_XS, and of MXFP4 (doubled): what each code of 4 bits stands for.
IQ4_STEPS = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.int16
)
FP4_STEPS = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], dtype=np.int16)


def unpack_blocks(type_: TensorType, blocks: Bytes) -> Groups:
    """Blocks of a quantized type, [blocks, bytes of a block]."""
    return _UNPACK[type_.name](blocks)


def dequantize(type_: TensorType, raw: Bytes) -> Floats:
    """The values of a tensor's bytes in float32, in one row."""
    if type_ is F32:
        return raw.view("<f4")
    if type_ is F16:
        return raw.view("<f2").astype(np.float32)
    if type_ is BF16:
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return unpack_blocks(type_, raw.reshape(-1, type_.bytes)).values().reshape(-1)


def _nibbles(packed: Bytes) -> Bytes:
    """[blocks, bytes] to [blocks, 2 * bytes]: the low halves of all bytes, then the high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _fifth_bits(packed: Bytes) -> Bytes:
    """[blocks, 4] to the bit of each of 32 values, at its place in a code of 5 bits."""
    return np.unpackbits(packed.astype(np.uint8, copy=False), axis=-1, bitorder="little") << 4


def _q4_0(blocks: Bytes) -> Groups:
    scales = half(blocks, 0)
    return Groups(_nibbles(blocks[:, 2:])[:, None], scales, -8 * scales)


def _q4_1(blocks: Bytes) -> Groups:
    return Groups(_nibbles(blocks[:, 4:])[:, None], half(blocks, 0), half(blocks, 2))


def _q5_0(blocks: Bytes) -> Groups:
    scales = half(blocks, 0)
    codes = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6])
    return Groups(codes[:, None], scales, -16 * scales)


def _q5_1(blocks: Bytes) -> Groups:
    codes = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])
    return Groups(codes[:, None], half(blocks, 0), half(blocks, 2))


def _q8_0(blocks: Bytes) -> Groups:
    scales = half(blocks, 0)
    return Groups((blocks[:, 2:] ^ 128)[:, None], scales, -128 * scales)


def _q2_k(blocks: Bytes) -> Groups:
    factors, packed = blocks[:, :16], blocks[:, 16:80]
    codes = planes(packed.reshape(-1, 2, 1, 32), (0, 2, 4, 6)) & 3
    return Groups(
        codes.reshape(-1, 16, 16), half(blocks, 80) * (factors & 15), -(half(blocks, 82) * (factors >> 4))
    )


def _q3_k(blocks: Bytes) -> Groups:
    high, packed, factors = blocks[:, :32], blocks[:, 32:96], blocks[:, 96:108]
    codes = planes(packed.reshape(-1, 2, 1, 32), (0, 2, 4, 6)) & 3
    third = planes(high.reshape(-1, 1, 1, 32), range(8)) & 1
    codes = codes.reshape(-1, 16, 16) | (third.reshape(-1, 16, 16) << 2)
    low = np.concatenate([factors[:, :8] & 15, factors[:, :8] >> 4], axis=-1)
    top = (planes(factors[:, None, 8:], (0, 2, 4, 6)) & 3).reshape(-1, 16)
    scales = half(blocks, 108) * ((low | (top << 4)).astype(np.int8) - 32)
    return Groups(codes, scales, -4 * scales)


def _q4_k(blocks: Bytes) -> Groups:
    codes = planes(blocks[:, 16:].reshape(-1, 4, 1, 32), (0, 4)) & 15
    return Groups(codes.reshape(-1, 8, 32), *_scales_of_k(blocks))


def _q5_k(blocks: Bytes) -> Groups:
    codes = planes(blocks[:, 48:].reshape(-1, 4, 1, 32), (0, 4)) & 15
    fifth = planes(blocks[:, 16:48].reshape(-1, 1, 1, 32), range(8)) & 1
    return Groups(codes.reshape(-1, 8, 32) | (fifth.reshape(-1, 8, 32) << 4), *_scales_of_k(blocks))


def _q6_k(blocks: Bytes) -> Groups:
    low = planes(blocks[:, :128].reshape(-1, 2, 1, 64), (0, 4)) & 15
    high = planes(blocks[:, 128:192].reshape(-1, 2, 1, 32), (0, 2, 4, 6)) & 3
    codes = low.reshape(-1, 16, 16) | (high.reshape(-1, 16, 16) << 4)
    scales = half(blocks, 208) * np.ascontiguousarray(blocks[:, 192:208]).view(np.int8)
    return Groups(codes, scales, -32 * scales)


def _iq4_nl(blocks: Bytes) -> Groups:
    scales = half(blocks, 0)
    codes = (IQ4_STEPS + 128).astype(np.uint8)[_nibbles(blocks[:, 2:])]
    return Groups(codes[:, None], scales, -128 * scales)


def _iq4_xs(blocks: Bytes) -> Groups:
    high = np.ascontiguousarray(blocks[:, 2:4]).view("<u2") >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    low = np.stack([blocks[:, 4:8] & 15, blocks[:, 4:8] >> 4], axis=-1).reshape(-1, 8)
    scales = half(blocks, 0) * ((low | (high << 4).astype(np.uint8)).astype(np.int8) - 32)
    codes = (IQ4_STEPS + 128).astype(np.uint8)[_nibbles(blocks[:, 8:].reshape(-1, 8, 16))]
    return Groups(codes, scales, -128 * scales)


def _mxfp4(blocks: Bytes) -> Groups:
    """The scale is a power of two, halved because the steps are doubled."""
    scales = np.ldexp(np.float32(1), blocks[:, :1].astype(np.int32) - 128).astype(np.float32)
    codes = (FP4_STEPS + 12).astype(np.uint8)[_nibbles(blocks[:, 1:])]
    return Groups(codes[:, None], scales, -12 * scales)


def _scales_of_k(blocks: Bytes) -> tuple[Floats, Floats]:
    """Scales and offsets of Q4_K and Q5_K: eight of 6 bits each in 12 bytes, times two numbers of the block."""
    first, second, rest = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = np.concatenate([first & 63, (rest & 15) | (first >> 6 << 4)], axis=-1)
    offsets = np.concatenate([second & 63, (rest >> 4) | (second >> 6 << 4)], axis=-1)
    return half(blocks, 0) * scales, -(half(blocks, 2) * offsets)


_UNPACK: dict[str, Callable[[Bytes], Groups]] = {
    "Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0, "Q5_1": _q5_1, "Q8_0": _q8_0, "Q2_K": _q2_k, "Q3_K": _q3_k,
    "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k, "IQ4_NL": _iq4_nl, "IQ4_XS": _iq4_xs, "MXFP4": _mxfp4,
    **codebook_blocks.UNPACK,
}  # fmt: skip
