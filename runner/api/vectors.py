"""Embeddings cut to the dimensions that a client asks for."""

import math

from runner.errors import BadRequest


def cut(vector: list[float], dimensions: int | None) -> list[float]:
    """The first dimensions, normalized to length 1: a shorter embedding, for models trained for that."""
    if dimensions is None or dimensions == len(vector):
        return vector
    if dimensions > len(vector):
        raise BadRequest(f"dimensions: {dimensions} is too many; this model's vectors have {len(vector)}")
    first = vector[:dimensions]
    length = math.hypot(*first)
    return [value / length for value in first] if length else first
