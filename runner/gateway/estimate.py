"""What a model will hold, from the sizes that its files declare and the options of its runner. Loads nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from pipelines.limits import ADAPTER_BYTES
from runner.errors import ModelNotSupported
from runner.gateway.gpus import on_gpu
from runner.hardware import has_gpu_backend
from runner.inspect.image_backend import ImageEngine
from runner.inspect.memory import UNREADABLE_VRAM, MemoryEstimate, allowance, estimate_memory, is_quantized
from runner.inspect.memory_mode import parse_memory
from runner.sources import ModelFiles, ModelMode
from runner.sources.adapters import AdapterSource
from runner.sources.find import find_here
from runner.sources.loras import parse_lora

SMALLEST = "4"


@dataclass(frozen=True)
class Need:
    """Bytes with everything held at once; with the text encoder and the rest in turn; and in turn in 4 bits.

    `packed`: the same with quantized weights as they are, where a runner unpacks them if there is room.
    """

    resident: int
    staged: int
    smallest: int
    allowance: int
    packed: "Need | None" = None

    @classmethod
    def of(cls, estimate: MemoryEstimate, smallest: int, packed: "Need | None" = None) -> Self:
        return cls(estimate.resident, estimate.staged, smallest, estimate.allowance, packed)

    def times(self, count: int) -> "Need":
        """For so many of them side by side."""
        packed = None if self.packed is None else self.packed.times(count)
        return Need(
            self.resident * count, self.staged * count, self.smallest * count, self.allowance * count, packed
        )

    def plus(self, other: "Need") -> "Need":
        """For both side by side."""
        packed = None if self.packed is None else self.packed.plus(other)
        return Need(
            self.resident + other.resident,
            self.staged + other.staged,
            self.smallest + other.smallest,
            self.allowance + other.allowance,
            packed,
        )

    def holding(self, more: int) -> "Need":
        """With so many bytes beside."""
        packed = None if self.packed is None else self.packed.holding(more)
        return Need(
            self.resident + more, self.staged + more, self.smallest + more, self.allowance + more, packed
        )

    def within(self, budget: int, at_once: bool = False) -> "Need":
        """How it will be held: unpacked where that fits, in turn unless it has to be `at_once`."""
        least = self.resident if at_once else self.staged
        return self.packed if self.packed is not None and least > budget else self


def need(
    files: ModelFiles, mode: ModelMode, options: Sequence[str], engine: ImageEngine = ImageEngine.MLX
) -> Need:
    """What a model will need, with its draft model if that is on this machine. Raises ModelNotSupported when its weights
    cannot be read: no runner could load them either."""
    total = _need(files, mode, options, engine)
    folder = option(options, "loras")
    if folder and mode is ModelMode.IMAGE and engine is ImageEngine.MLX:
        total = total.holding(min(AdapterSource(folder).bytes, ADAPTER_BYTES))
    if mode is ModelMode.TEXT:
        total = total.holding(_adapter_bytes(options))
    draft = option(options, "draft") if mode is ModelMode.TEXT else None
    draft_files = None if draft is None else find_here(draft)
    return total if draft_files is None else total.plus(_need(draft_files, mode, options, engine))


def _need(files: ModelFiles, mode: ModelMode, options: Sequence[str], engine: ImageEngine) -> Need:
    if engine is ImageEngine.TORCH:
        return _torch_need(files, options)
    float32 = not has_gpu_backend() and option(options, "dtype") != "checkpoint"
    is_image = mode is ModelMode.IMAGE
    quantize = option(options, "quantize") if is_image else None
    ranks = 1 if is_image else int(option(options, "tensor-parallel") or 1)
    stored = estimate_memory(files, mode, float32=float32, quantize=quantize, ranks=ranks)
    if not stored.weights:
        raise ModelNotSupported(f"{files.place} declares no weights")
    smallest = stored.staged
    if is_image:
        smallest = min(smallest, estimate_memory(files, mode, float32=float32, quantize=SMALLEST).staged)
    packed = Need.of(stored, smallest)
    if not float32 or ranks > 1 or not (quantize or is_quantized(files, mode)):
        return packed
    either = Need.of(estimate_memory(files, mode, unpacked=True), smallest, packed)
    budget = parse_memory(option(options, "memory") or "auto") if is_image else "auto"
    return either.within(budget) if isinstance(budget, int) else either


def _adapter_bytes(options: Sequence[str]) -> int:
    """Of the adapters of a language model. BadRequest if one is not there."""
    named = [options[at + 1] for at, word in enumerate(options[:-1]) if word == "--lora"]
    places = [parse_lora(text).path for text in named]
    files = [
        file for place in places for file in ([place] if place.is_file() else place.glob("*.safetensors"))
    ]
    return sum(file.stat().st_size for file in files)


def _torch_need(files: ModelFiles, options: Sequence[str]) -> Need:
    """8 GiB when the files do not say: diffusers reads more formats than we do."""
    float32 = option(options, "dtype") == "float32" or not on_gpu(ImageEngine.TORCH)
    try:
        total = estimate_memory(files, ModelMode.IMAGE, float32=float32).resident
    except ModelNotSupported:
        total = UNREADABLE_VRAM
    return Need(total, total, total, allowance(files, ModelMode.IMAGE))


def option(options: Sequence[str], name: str) -> str | None:
    """The value of `--name VALUE` or `--name=VALUE` among a runner's options."""
    for place, word in enumerate(options):
        if word == f"--{name}" and place + 1 < len(options):
            return options[place + 1]
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
    return None
