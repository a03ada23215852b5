"""The ways in which weights are quantized, by their names and shapes. No MLX: what a model will hold is known before it is
loaded."""

from typing import NamedTuple


class Format(NamedTuple):
    """`overhead`: the bits of a group's scale, and of its bias where there is one."""

    bits: int
    group_size: int
    overhead: int

    @property
    def stored_bits(self) -> float:
        """Bits per weight, with its share of the scales."""
        return self.bits + self.overhead / self.group_size


# Integers: a scale and a bias of 16 bits. Floating point: a scale of 8.
AFFINE_FORMATS = {str(bits): Format(bits, 64, 32) for bits in (3, 4, 5, 6, 8)}
FLOAT_FORMATS = {"mxfp4": Format(4, 32, 8), "mxfp8": Format(8, 32, 8), "nvfp4": Format(4, 16, 8)}
FORMATS = AFFINE_FORMATS | FLOAT_FORMATS
# Bits and group sizes that MLX reads, in the order in which they are guessed from the shapes of a file's tensors.
READABLE_AFFINE = tuple((bits, group) for group in (64, 32, 128) for bits in (4, 8, 2, 3, 5, 6))
