"""How a picture model is held in memory: all of it at once, or its text encoder and its transformer in turn. No MLX."""

from dataclasses import dataclass

from pipelines.settings import Memory
from runner.inspect.memory import MemoryEstimate
from runner.units import parse_size, show_size

# Of the device's memory; the rest is for the system, other programs and MLX's buffers.
SHARE = 0.75


@dataclass(frozen=True)
class MemoryChoice:
    """A choice, and a sentence for the log that explains it. `unpacked`: quantized layers are held in float32."""

    memory: Memory
    why: str
    unpacked: bool = False


def parse_memory(text: str) -> str | int:
    """A value of `--memory`: auto, resident, staged, or a size in bytes."""
    word = text.strip().lower()
    if word in ("auto", "resident", "staged"):
        return word
    try:
        return parse_size(text)
    except ValueError as error:
        raise ValueError(f"{error}; auto, resident and staged are accepted too") from None


def choose_loading(
    memory: str | int,
    packed: MemoryEstimate,
    unpacked: MemoryEstimate | None,
    device: int,
    room_to_unpack: int,
) -> MemoryChoice:
    """As `choose_memory`, for a CPU, which is many times faster with quantized layers `unpacked` (None: it has none): they
    are unpacked wherever there is room, in turn if need be."""
    if unpacked is None:
        return choose_memory(memory, packed, device)
    budget = memory if isinstance(memory, int) else min(int(device * SHARE), room_to_unpack)
    room = f"the {show_size(budget)} available"
    because = "a processor is many times slower with packed weights"
    modes: tuple[tuple[Memory, int], ...] = (("resident", unpacked.resident), ("staged", unpacked.staged))
    for mode, size in modes:
        if size <= budget and memory not in {"resident", "staged"} - {mode}:
            why = f"{mode}, quantized weights unpacked to float32: about {show_size(size)} fit into {room}; {because}"
            return MemoryChoice(mode, why, unpacked=True)
    choice = choose_memory(memory, packed, device)
    least = unpacked.resident if memory == "resident" else unpacked.staged
    return MemoryChoice(
        choice.memory,
        f"{choice.why}; quantized weights stay packed: in float32 they would need about {show_size(least)}, more than "
        f"{room}; {because}",
    )


def choose_memory(memory: str | int, estimate: MemoryEstimate, device: int) -> MemoryChoice:
    """Nothing is refused: a model that is too large even so is staged, and the reason says what would help."""
    if memory == "resident":
        return MemoryChoice("resident", "resident, as requested")
    if memory == "staged":
        return MemoryChoice("staged", "staged, as requested")
    budget = memory if isinstance(memory, int) else int(device * SHARE)
    room = f"{'the budget of ' if isinstance(memory, int) else 'the '}{show_size(budget)}"
    room += "" if isinstance(memory, int) else " available"
    if estimate.resident <= budget:
        return MemoryChoice("resident", f"resident: about {show_size(estimate.resident)} fit into {room}")
    if estimate.staged <= budget:
        return MemoryChoice(
            "staged",
            f"staged: all at once it needs about {show_size(estimate.resident)}, "
            f"in turn {show_size(estimate.staged)}, which fit into {room}",
        )
    return MemoryChoice(
        "staged",
        f"staged: even in turn its parts need about {show_size(estimate.staged)}, more than {room}; "
        "--quantize 4 would help",
    )
