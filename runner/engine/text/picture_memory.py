"""Whether the tower of a model that sees has room to look at a picture: a request that would end the process is refused."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from models.vision.working_memory import CHANNELS, TowerWork
from runner.engine import device
from runner.engine.text.kv_memory import memory_left
from runner.errors import NotEnoughMemory
from runner.units import show_size

if TYPE_CHECKING:
    from models.vision.interface import SeenPicture

HALF, FLOAT32 = 2, 4


def room_check(config: Mapping[str, Any]) -> "Callable[[SeenPicture], None]":
    """By config.json."""
    work = TowerWork.of(config)
    return lambda seen: None if work is None else _check(work, seen)


def _check(work: TowerWork, seen: "SeenPicture") -> None:
    """NotEnoughMemory, before any work."""
    needed = work.bytes(seen.pixels.size // CHANNELS, HALF if device.has_gpu() else FLOAT32)
    left = memory_left()
    if needed > left:
        raise NotEnoughMemory(
            f"looking at it takes about {show_size(needed)} beside the weights, and {show_size(left)} are left; send a smaller "
            "picture"
        )
