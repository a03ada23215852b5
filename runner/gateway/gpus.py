"""Which of the machine's GPUs a model's runners take. No MLX, no torch."""

import os
import sys

from runner.errors import BadRequest
from runner.hardware import VISIBLE, card_memory, has_gpu_backend, visible_cards
from runner.inspect.image_backend import ImageEngine


def on_gpu(engine: ImageEngine) -> bool:
    """The same of either engine: torch takes the card that it finds."""
    if engine is ImageEngine.MLX:
        return has_gpu_backend()
    return sys.platform == "darwin" or card_memory() is not None


def cards_for(replicas: int, engine: ImageEngine) -> tuple[str, ...]:
    """One card for each of so many runners of a model; none where they share a processor. BadRequest where there are
    too few."""
    if replicas == 1 or not on_gpu(engine):
        return ()
    if sys.platform == "darwin":
        raise BadRequest(f"replicas = {replicas} needs as many GPUs, and a Mac has one; 1 is allowed")
    found = visible_cards()
    if len(found) < replicas:
        whose = f"{VISIBLE} lists" if VISIBLE in os.environ else "this machine has"
        raise BadRequest(f"replicas = {replicas} needs as many GPUs; {whose} {len(found)}")
    return found[:replicas]
