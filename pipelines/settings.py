"""How a model is loaded. No MLX: the runner chooses these before a model is loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from models.files import LocalModel
from models.vae.strips import Strips
from pipelines.limits import ADAPTER_BYTES

if TYPE_CHECKING:
    from models.checkpoint.quantize import Quantization

Memory: TypeAlias = Literal["resident", "staged"]
Progress: TypeAlias = Callable[[float], None]  # called with the fraction done, from 0 to 1

# Working memory of a staged model's autoencoder, in bytes: enough for two megapixels in half precision on a GPU; of larger
# pictures the last block is recomputed.
VAE_BYTES = 1_600_000_000


@dataclass(frozen=True)
class Settings:
    """`dtype` None keeps the checkpoint's; without a GPU "float32" is best.

    A staged model holds the text encoder or the transformer, never both, and decodes in strips: a new prompt reloads
    both, a cached one neither. `strips`, or the bytes that they may hold, set how the autoencoder works for either kind of
    memory. `unpacked`: quantized layers are held as float32, with their quantized values, which is many times faster on a
    CPU. `compiled` None: on a GPU.
    """

    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    quantization: "Quantization | None" = None
    memory: Memory = "resident"
    strips: Strips | int | None = None
    unpacked: bool = False
    compiled: bool | None = None
    embedding_bytes: int = 256 * 2**20  # of the cache of encoded prompts
    tiny_vae: LocalModel | None = None  # a tiny autoencoder, for previews and where a request asks for it
    tiny_vae_chosen: bool = False  # or only found: then it is left out where it does not fit
    adapter_bytes: int = ADAPTER_BYTES  # of the adapters that are kept after their use

    @property
    def staged(self) -> bool:
        return self.memory == "staged"

    @property
    def vae_strips(self) -> Strips | int | None:
        """None: the autoencoder works on whole pictures."""
        return self.strips or (VAE_BYTES if self.staged else None)


RESIDENT = Settings()


def no_progress(done: float) -> None:
    """The default: progress is not shown."""
