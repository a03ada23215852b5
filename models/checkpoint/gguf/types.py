"""The types of tensors in a GGUF, by their numbers in the file, and what each becomes in MLX. No MLX, no numpy."""

from typing import NamedTuple


class Packing(NamedTuple):
    """A layout of MLX's affine quantization, in groups of 32. `exact`: it holds the same values."""

    bits: int
    exact: bool = True


class TensorType(NamedTuple):
    """`values` are stored in a block of `bytes`. `packing`: None for types that are not quantized."""

    name: str
    values: int
    bytes: int
    packing: Packing | None = None

    def nbytes(self, count: int) -> int:
        return count // self.values * self.bytes


GROUP = 32
F32 = TensorType("F32", 1, 4)
F16 = TensorType("F16", 1, 2)
BF16 = TensorType("BF16", 1, 2)
FLOATS = (F32, F16, BF16)

TYPES = {
    0: F32,
    1: F16,
    2: TensorType("Q4_0", 32, 18, Packing(4)),
    3: TensorType("Q4_1", 32, 20, Packing(4)),
    6: TensorType("Q5_0", 32, 22, Packing(5)),
    7: TensorType("Q5_1", 32, 24, Packing(5)),
    8: TensorType("Q8_0", 32, 34, Packing(8)),
    # A scale for every 16 values, where MLX has one for 32.
    10: TensorType("Q2_K", 256, 84, Packing(8, exact=False)),
    11: TensorType("Q3_K", 256, 110, Packing(8, exact=False)),
    12: TensorType("Q4_K", 256, 144, Packing(4)),
    13: TensorType("Q5_K", 256, 176, Packing(5)),
    14: TensorType("Q6_K", 256, 210, Packing(8, exact=False)),
    # Rows of a codebook, and steps of a table: whole numbers times a scale, which a code holds as they are where the
    # scale is that of 32 values.
    16: TensorType("IQ2_XXS", 256, 66, Packing(8)),
    17: TensorType("IQ2_XS", 256, 74, Packing(8, exact=False)),
    18: TensorType("IQ3_XXS", 256, 98, Packing(6)),
    19: TensorType("IQ1_S", 256, 50, Packing(2)),
    20: TensorType("IQ4_NL", 32, 18, Packing(8)),
    21: TensorType("IQ3_S", 256, 110, Packing(4)),
    22: TensorType("IQ2_S", 256, 82, Packing(8, exact=False)),
    23: TensorType("IQ4_XS", 256, 136, Packing(8)),
    29: TensorType("IQ1_M", 256, 56, Packing(8, exact=False)),
    30: BF16,
    34: TensorType("TQ1_0", 256, 54, Packing(2)),
    35: TensorType("TQ2_0", 256, 66, Packing(2)),
    39: TensorType("MXFP4", 32, 17, Packing(5)),
}
# Types that the format defines and this reader does not: named in errors.
OTHER_TYPES = {
    9: "Q8_1", 15: "Q8_K", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 40: "NVFP4",
}  # fmt: skip
