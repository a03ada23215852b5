"""Assigns GPUs to the runners of a model. Imports neither MLX nor torch."""

import os
import sys

from runner.errors import BadRequest
from runner.hardware import VISIBLE, card_memory, has_gpu_backend, visible_cards
from runner.inspect.image_backend import ImageEngine


def on_gpu(engine: ImageEngine) -> bool:
    """Whether runners with this engine use a GPU. Torch uses any card there is."""
    if engine is ImageEngine.MLX:
        return has_gpu_backend()
    return sys.platform == "darwin" or card_memory() is not None


def cards_for(replicas: int, engine: ImageEngine) -> tuple[str, ...]:
    """One card for each replica; none where they share a processor. BadRequest when there are too few."""
    if replicas == 1 or not on_gpu(engine):
        return ()
    if sys.platform == "darwin":
        raise BadRequest(f"replicas = {replicas} needs as many GPUs, but a Mac has one; only 1 is allowed")
    cards = visible_cards()
    if len(cards) < replicas:
        where = f"{VISIBLE} lists" if VISIBLE in os.environ else "this machine has"
        raise BadRequest(f"replicas = {replicas} needs as many GPUs; {where} {len(cards)}")
    return cards[:replicas]
