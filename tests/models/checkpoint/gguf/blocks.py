"""Random blocks of quantized types, with scales as weights have them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.checkpoint.gguf.types import TensorType

# Where each type has its numbers of 16 bits.
HALVES = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82), "Q3_K": (108,),
    "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,), "MXFP4": (), "IQ2_XXS": (0,),
    "IQ2_XS": (0,), "IQ2_S": (0,), "IQ3_XXS": (0,), "IQ3_S": (0,), "IQ1_S": (0,), "IQ1_M": (), "TQ1_0": (52,), "TQ2_0": (64,),
}  # fmt: skip


def random_blocks(type_: TensorType, count: int, seed: int) -> NDArray[np.uint8]:
    """[count, bytes of a block]: all bits at random but for the scales, which are small and of either sign."""
    random: Any = np.random.default_rng(seed)
    raw = random.integers(0, 256, (count, type_.bytes), dtype=np.uint8)
    for at in HALVES[type_.name]:
        scales = (random.normal(size=count) * 0.01).astype("<f2")
        raw[:, at : at + 2] = scales.view(np.uint8).reshape(count, 2)
    if type_.name == "MXFP4":
        raw[:, 0] = random.integers(110, 130, count)
    if type_.name == "IQ1_M":  # its scale of 16 bits lies in the high bits of four words
        scales = (random.normal(size=count) * 0.01).astype("<f2").view(np.uint16)
        for at in range(4):
            raw[:, 49 + 2 * at] = raw[:, 49 + 2 * at] & 15 | (scales >> 4 * at & 15) << 4
    return raw  # type: ignore[no-any-return]
