"""How a model is loaded. No MLX, so that the runner can choose before it starts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from models.vae.strips import Strips

if TYPE_CHECKING:
    from models.checkpoint.quantize import Quantization

Memory: TypeAlias = Literal["resident", "staged"]
Progress: TypeAlias = Callable[[float], None]  # hears how much is done, from 0 to 1

QUANTIZATIONS = ("3", "4", "5", "6", "8", "mxfp4", "mxfp8", "nvfp4")  # what Quantization.parse takes
# Bytes that a staged model's autoencoder may hold beside all weights: with so many, a GPU computes everything of two
# megapixels in half precision once, and of larger ones their last block again.
ROOM = 1_600_000_000


@dataclass(frozen=True)
class Settings:
    """`dtype` None keeps the checkpoint's; a processor without a GPU wants "float32".

    `staged` holds the text encoder and the transformer in turn, never both, and decodes in strips: a new prompt costs
    reading both again, one that was read lately costs nothing. `strips`, or the bytes that they may hold, are
    what the autoencoder works in whatever the memory. `unpacked`: quantized layers are held in float32, with the values
    that they have when quantized, since a processor is many times quicker so. `compiled` None: where there is a GPU.
    """

    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    quantization: "Quantization | None" = None
    memory: Memory = "resident"
    strips: Strips | int | None = None
    unpacked: bool = False
    compiled: bool | None = None
    embedding_bytes: int = 256 * 2**20  # of encoded prompts, kept for when they come again

    @property
    def staged(self) -> bool:
        return self.memory == "staged"

    @property
    def parts(self) -> Strips | int | None:
        """What the autoencoder is to work in."""
        return self.strips or (ROOM if self.staged else None)


RESIDENT = Settings()


def unheard(done: float) -> None:
    """Progress that nobody listens to."""
