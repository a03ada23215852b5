"""How a picture model is held in memory: all of it at once, or its text encoder and its transformer in turn. No MLX."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from models.checkpoint.safetensors import TensorInfo
from pipelines.settings import Memory
from runner.inspect.memory import MemoryEstimate, allowance
from runner.inspect.tensor_summary import has_packed, unpacked_bytes
from runner.sources import ModelFiles, ModelMode
from runner.sources.required_files import weight_folders
from runner.units import parse_size, show_size

# Bits a value with its share of scales: groups of 64 with a scale and an offset of 16 bits, or 8-bit scales.
_FLOAT_BITS = {"mxfp4": 4.25, "mxfp8": 8.25, "nvfp4": 4.5}
_WIDENED = {"F16": 4, "BF16": 4}
_QUANTIZABLE = ("F32", "F16", "BF16")
# What the system, other programs and MLX's buffers may take.
SHARE = 0.75


@dataclass(frozen=True)
class MemoryChoice:
    """What was decided, and a sentence for the log that says why. `unpacked`: quantized layers are held in float32."""

    memory: Memory
    why: str
    unpacked: bool = False


def parse_memory(text: str) -> str | int:
    """What `--memory` takes: auto, resident, staged, or a size in bytes."""
    word = text.strip().lower()
    if word in ("auto", "resident", "staged"):
        return word
    try:
        return parse_size(text)
    except ValueError as error:
        raise ValueError(f"{error}; auto, resident and staged are accepted too") from None


def estimate_loaded(
    files: ModelFiles, float32: bool, quantize: str | None, unpacked: bool = False
) -> MemoryEstimate:
    """What a picture model holds once it is loaded in this way; loads nothing."""
    sizes = {}
    for name in weight_folders(files, ModelMode.IMAGE):
        tensors = files.tensors(name)
        how = None if name == "vae" else quantize
        sizes[name] = unpacked_bytes(tensors) if unpacked else _loaded_bytes(tensors, float32, how)
    return MemoryEstimate(
        {name: size for name, size in sizes.items() if size}, allowance(files, ModelMode.IMAGE)
    )


def _loaded_bytes(tensors: Mapping[str, TensorInfo], float32: bool, quantize: str | None) -> int:
    size = 0.0
    for name, info in tensors.items():
        count = math.prod(info.shape)
        if quantize and info.dtype in _QUANTIZABLE and len(info.shape) == 2 and "embed" not in name:
            size += count * _bits(quantize) / 8
        elif float32 and info.dtype in _WIDENED:
            size += count * _WIDENED[info.dtype]
        else:
            size += info.nbytes
    return round(size)


def is_quantized(files: ModelFiles) -> bool:
    """Whether a picture model's files hold quantized layers."""
    return any(has_packed(files.tensors(name)) for name in weight_folders(files, ModelMode.IMAGE))


def _bits(quantize: str) -> float:
    return _FLOAT_BITS[quantize] if quantize in _FLOAT_BITS else int(quantize) + 0.5


def choose_loading(
    wanted: str | int, packed: MemoryEstimate, unpacked: MemoryEstimate | None, device: int, left: int
) -> MemoryChoice:
    """The same for a processor, which is many times quicker where quantized layers are `unpacked` (None: there are none):
    so that is done wherever `left` has room for it, in turn if need be."""
    if unpacked is None:
        return choose_memory(wanted, packed, device)
    budget = wanted if isinstance(wanted, int) else min(int(device * SHARE), left)
    room = f"the {show_size(budget)} there are for it"
    because = "a processor is many times slower with packed weights"
    for memory, needed in (("resident", unpacked.total), ("staged", unpacked.least)):
        if needed <= budget and wanted not in {"resident", "staged"} - {memory}:
            why = f"{memory}, quantized weights unpacked to float32: about {show_size(needed)} fit into {room}; {because}"
            return MemoryChoice("resident" if memory == "resident" else "staged", why, unpacked=True)
    choice = choose_memory(wanted, packed, device)
    least = unpacked.total if wanted == "resident" else unpacked.least
    return MemoryChoice(
        choice.memory,
        f"{choice.why}; quantized weights stay packed: in float32 they would need about {show_size(least)}, more than "
        f"{room}; {because}",
    )


def choose_memory(wanted: str | int, estimate: MemoryEstimate, device: int) -> MemoryChoice:
    """Nothing is refused: what fits nowhere is staged, and the reason says what would help."""
    if wanted in ("resident", "staged"):
        return MemoryChoice("resident" if wanted == "resident" else "staged", f"{wanted}, as asked")
    budget = wanted if isinstance(wanted, int) else int(device * SHARE)
    whose = "the budget of" if isinstance(wanted, int) else "the"
    room = f"{whose} {show_size(budget)}" + ("" if isinstance(wanted, int) else " there are for it")
    if estimate.total <= budget:
        return MemoryChoice("resident", f"resident: about {show_size(estimate.total)} fit into {room}")
    if estimate.least <= budget:
        return MemoryChoice(
            "staged",
            f"staged: all at once it needs about {show_size(estimate.total)}, "
            f"in turn {show_size(estimate.least)}, which fit into {room}",
        )
    return MemoryChoice(
        "staged",
        f"staged: even in turn its parts need about {show_size(estimate.least)}, more than {room}; "
        "--quantize 4 would help",
    )
