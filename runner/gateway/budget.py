"""How much memory there is for models: the device's, less what the system and others need. No MLX, no process."""

import logging
import sys

from runner.hardware import card_memory, device_memory, has_gpu_backend
from runner.units import GIB

log = logging.getLogger("diptych.gateway")

# The share of it that models get. On a Mac, Metal itself lends about three quarters.
MAC_SHARE = 0.75
CARD_SHARE = 0.94
RAM_SHARE = 0.85
# When the system says nothing at all.
UNKNOWN = 8 * GIB


def default_budget() -> tuple[int, str]:
    """Bytes for models, and where the number comes from."""
    if sys.platform == "darwin":
        return _share(device_memory(), MAC_SHARE, "unified memory")
    if has_gpu_backend():
        card = card_memory()
        if card is not None:
            return _share(card, CARD_SHARE, "the card's memory")
    return _share(device_memory(), RAM_SHARE, "memory")


def _share(memory: int | None, share: float, whose: str) -> tuple[int, str]:
    if memory is None:
        return UNKNOWN, "a guess: the system does not say how much memory there is"
    return int(memory * share), f"{share:.0%} of {whose}"
