"""`diptych` alone: what there is on this machine, and what to do next."""

from runner.config import load
from runner.hardware import UNKNOWN_MEMORY, device_memory
from runner.library import installed
from runner.sources import ModelMode
from runner.units import GIB, show_size

# Memory of a machine, and what runs well on it. Held in turns at 4 bits, FLUX.2 klein 4B peaked at 4.65 GB on a card.
DRAWS = (
    (24 * GIB, "black-forest-labs/FLUX.2-klein-4B", ""),
    (7 * GIB, "black-forest-labs/FLUX.2-klein-4B", " --quantize 4 --memory staged"),
)
CHATS = ((15 * GIB, "Qwen/Qwen3-4B", ""), (0, "Qwen/Qwen3-0.6B", ""))


def run() -> int:
    memory = device_memory() or UNKNOWN_MEMORY
    models = [model for model in installed(load(None).aliases).models if model.fault is None]
    print(
        f"Diptych runs models that draw and models that write.\nThis machine has {show_size(memory)} of memory.\n"
    )
    for command, about in _with(models[0].name) if models else _first(memory):
        print(f"  {about}:\n    {command}\n")
    print("`diptych --help` lists all commands.")
    return 0


def _with(name: str) -> list[tuple[str, str]]:
    return [
        ("diptych list", "The models on this machine"),
        (f"diptych run {name}", "Chat or draw"),
        ("diptych serve", "A web page, and APIs for other programs"),
    ]


def _first(memory: int) -> list[tuple[str, str]]:
    """Without any model: the sample, and a first model of each kind that fits."""
    lines = [
        ('diptych draw "a red circle"', "Draw with a small sample, without a download"),
        ("diptych serve", "A web page for it"),
    ]
    for mode, choices in ((ModelMode.IMAGE, DRAWS), (ModelMode.TEXT, CHATS)):
        model, options = next(
            ((name, options) for least, name, options in choices if memory >= least), ("", "")
        )
        if model and mode is ModelMode.IMAGE:
            lines.append(
                (
                    f'diptych draw "a lighthouse" --model {model}{options}',
                    "Download a model that fits, and draw",
                )
            )
        elif model:
            lines.append((f"diptych chat {model}", "Download a model that fits, and chat"))
    return lines
