"""What to measure, and how, in the names of the command line. No MLX."""

from dataclasses import dataclass
from pathlib import Path

PICTURE_PARTS = ("load", "first", "encode", "step", "decode", "strips", "pack", "picture", "http")
TEXT_PARTS = ("load", "first", "http", "library", "raw")
PARTS = tuple(dict.fromkeys((*PICTURE_PARTS, *TEXT_PARTS)))
PICTURE_ENGINES = ("mlx", "torch", "torch-compile", "mflux")
TEXT_ENGINES = ("mlx", "mlx-lm", "mlx_lm.server", "torch-compile")
ENGINES = tuple(dict.fromkeys((*PICTURE_ENGINES, *TEXT_ENGINES)))
# With the chat template around it, a caption of 128 tokens for Z-Image.
PROMPT = "a lighthouse in the rain, seen from the sea, gulls above it, oil on canvas, tall"

Lengths = tuple[int, int]  # of prompts: the least and the most tokens


@dataclass(frozen=True)
class Options:
    """None: what the model suggests, or all there are."""

    engines: tuple[str, ...] | None = None
    parts: tuple[str, ...] = PARTS
    sizes: tuple[tuple[int, int], ...] | None = None
    counts: tuple[int, ...] = (1,)
    steps: int | None = None
    clients: tuple[int, ...] = (1, 8, 32)
    tokens: int = 256
    prompt_tokens: tuple[Lengths, ...] = ()  # none: prompts of some forty words
    long: int | None = None
    long_share: float | None = None
    edit: bool = False
    kv_memory: str | None = None  # as the runner's option has it
    seed: int = 0
    tensor_parallel: int = 1
    quantize: str | None = None
    memory: tuple[str, ...] = ("auto",)
    dtype: str | None = None
    layers: int | None = None
    rounds: int = 3
    scratch: Path | None = None
    mflux: Path | None = None  # an interpreter that has it, or a folder of packages

    def wants(self, *parts: str) -> bool:
        return any(part in self.parts for part in parts)
