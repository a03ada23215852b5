"""Seeds, and variations of one: its noise, turned some way towards the noise of another seed."""

import math
import secrets
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from pipelines.limits import MAX_SEED

if TYPE_CHECKING:
    import numpy as np

ALIKE = 0.9995  # noises at such a cosine are mixed evenly: an arc between them has hardly a length


class Variation(Struct, frozen=True):
    """The seed to turn to, and how far: 0 stays, 1 arrives."""

    seed: Annotated[int, Meta(ge=1)]
    strength: Annotated[float, Meta(ge=0, le=1)]

    def __post_init__(self) -> None:
        if self.seed > MAX_SEED:  # more than Meta can bound
            raise ValueError(f"seed: {self.seed.bit_length()} bits are too many; 1 to {MAX_SEED} are allowed")

    def __str__(self) -> str:
        return f"{self.seed}:{self.strength:g}"


def random_seed() -> int:
    """Noise depends on the low 32 bits alone."""
    return 1 + secrets.randbelow(2**32 - 1)


def parse_variation(text: str) -> Variation:
    """SEED:STRENGTH, or a ValueError that says what is wrong."""
    seed, colon, strength = text.partition(":")
    if not colon or not seed.isascii() or not seed.isdigit() or len(seed) > 20:
        raise ValueError("a seed and a strength are needed, such as 7:0.2")
    try:
        amount = float(strength)
    except ValueError:
        raise ValueError(f"{strength[:20]!r} is not a number") from None
    if not 1 <= int(seed) <= MAX_SEED:
        raise ValueError(f"{seed} is out of range; 1 to {MAX_SEED} are allowed")
    if not 0 <= amount <= 1:
        raise ValueError(f"{strength[:20]} is out of range; 0 to 1 is allowed")
    return Variation(int(seed), amount)


def slerp(start: "np.ndarray", end: "np.ndarray", amount: float) -> "np.ndarray":
    """A part of the way from one noise to another on the arc between them, so that it stays as strong as noise is."""
    import numpy as np

    a, b = start.astype(np.float64).ravel(), end.astype(np.float64).ravel()
    cosine = float(a @ b) / (math.sqrt(float(a @ a)) * math.sqrt(float(b @ b)))
    if abs(cosine) > ALIKE:
        mixed = (1 - amount) * a + amount * b
    else:
        angle = math.acos(cosine)
        mixed = (math.sin((1 - amount) * angle) * a + math.sin(amount * angle) * b) / math.sin(angle)
    whole: np.ndarray = mixed.astype(np.float32).reshape(start.shape)
    return whole
