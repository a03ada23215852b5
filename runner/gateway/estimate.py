"""What a model will hold, from the sizes its files declare and the way its runner is called. Loads nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.errors import ModelNotSupported
from runner.gateway.gpus import on_gpu
from runner.hardware import has_gpu_backend
from runner.inspect.image_backend import ImageEngine
from runner.inspect.image_memory import estimate_loaded, is_quantized, parse_memory
from runner.inspect.memory import UNREADABLE_VRAM, allowance
from runner.inspect.tensor_summary import has_packed, unpacked_bytes
from runner.sources import ModelFiles, ModelMode

SMALLEST = "4"


@dataclass(frozen=True)
class Need:
    """Bytes with everything held at once, with the text encoder and the rest in turn, and the latter in 4 bits.

    `packed`: the same with quantized weights as they are, where a runner unpacks them if there is room.
    """

    resident: int
    staged: int
    smallest: int
    allowance: int
    packed: "Need | None" = None

    def times(self, count: int) -> "Need":
        """So many of them beside each other."""
        packed = None if self.packed is None else self.packed.times(count)
        return Need(
            self.resident * count, self.staged * count, self.smallest * count, self.allowance * count, packed
        )

    def within(self, budget: int, at_once: bool = False) -> "Need":
        """How it will be held: unpacked where that fits, in turn unless it has to be `at_once`."""
        least = self.resident if at_once else self.staged
        return self.packed if self.packed is not None and least > budget else self


def need(
    files: ModelFiles, mode: ModelMode, options: Sequence[str], engine: ImageEngine = ImageEngine.MLX
) -> Need:
    """What a model will need. ModelNotSupported when its weights cannot be read: then no runner could load them."""
    extra = allowance(files, mode)
    if engine is ImageEngine.TORCH:
        total = _torch_bytes(files, options)
        return Need(total, total, total, extra)
    float32 = not has_gpu_backend() and option(options, "dtype") != "checkpoint"
    if mode is ModelMode.TEXT:
        return _text_need(files, float32, int(option(options, "tensor-parallel") or 1), extra)
    return _image_need(files, float32, options, extra)


def _text_need(files: ModelFiles, float32: bool, ranks: int, extra: int) -> Need:
    total = _text_bytes(files, float32, ranks) + extra
    packed = Need(total, total, total, extra)
    tensors = files.tensors("")
    if not float32 or ranks > 1 or not has_packed(tensors):
        return packed
    stated = (files.read_json("config.json") or {}).get("quantization")
    unpacked = unpacked_bytes(tensors, stated if isinstance(stated, dict) else None) + extra
    return Need(unpacked, unpacked, total, extra, packed)


def _image_need(files: ModelFiles, float32: bool, options: Sequence[str], extra: int) -> Need:
    quantize = option(options, "quantize")
    plain = estimate_loaded(files, float32, quantize)
    small = estimate_loaded(files, float32, SMALLEST)
    packed = Need(plain.total, plain.least, min(small.least, plain.least), extra)
    if not float32 or not (quantize or is_quantized(files)):
        return packed
    unpacked = estimate_loaded(files, float32, None, unpacked=True)
    both = Need(unpacked.total, unpacked.least, packed.smallest, extra, packed)
    budget = parse_memory(option(options, "memory") or "auto")
    return both.within(budget) if isinstance(budget, int) else both


def _torch_bytes(files: ModelFiles, options: Sequence[str]) -> int:
    """8 GiB when the files do not say: diffusers reads more formats than we do."""
    float32 = option(options, "dtype") == "float32" or not on_gpu(ImageEngine.TORCH)
    try:
        return estimate_loaded(files, float32, None).total
    except ModelNotSupported:
        return UNREADABLE_VRAM


def _text_bytes(files: ModelFiles, float32: bool, ranks: int) -> int:
    """On each of so many devices."""
    widened = ("F16", "BF16") if float32 else ()
    size = 0
    for name, info in files.tensors("").items():
        whole = "embed" in name or "lm_head" in name
        size += info.nbytes * (2 if info.dtype in widened else 1) // (1 if whole else ranks)
    if not size:
        raise ModelNotSupported(f"{files.place} declares no weights")
    return size


def option(options: Sequence[str], name: str) -> str | None:
    """The value of `--name VALUE` or `--name=VALUE` among a runner's options."""
    for place, word in enumerate(options):
        if word == f"--{name}" and place + 1 < len(options):
            return options[place + 1]
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
    return None
