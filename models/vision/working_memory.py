"""What looking at a picture takes beside the weights, from sizes alone. No MLX."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

CHANNELS = 3
# What a tower's block holds for each patch at its peak, in rows of its stream's width and of its feed-forward network's,
# rounded up from what was measured of the four kinds of towers (MLX 0.32.4, a processor).
STREAMS, MLPS = 16, 5
# Bytes of a value of the picture: its byte, its place in the table of numbers, its number; and its number in each frame.
VALUE, FRAME = 16, 8
# Of towers whose configuration leaves a size out: those of SigLIP's, the largest.
WIDTH, MLP, PATCH, FRAMES = 1152, 4304, 14, 1
# Pixels of a picture that room is kept for.
USUAL_PIXELS = 2**20


@dataclass(frozen=True)
class TowerWork:
    """`width` and `mlp`: of the tower's stream and its feed-forward network; `patch`: pixels along a patch."""

    width: int
    mlp: int
    patch: int
    frames: int
    pixels: int  # of the pictures that it usually looks at

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self | None:
        """By config.json; None for a model without a tower."""
        vision = config.get("vision_config")
        if not isinstance(vision, Mapping):
            return None
        side = _count(vision, "image_size", 0) if config.get("model_type") == "gemma3" else 0
        return cls(
            _count(vision, "hidden_size", WIDTH),
            _count(vision, "intermediate_size", MLP),
            _count(vision, "patch_size", PATCH),
            _count(vision, "temporal_patch_size", FRAMES),
            side * side or USUAL_PIXELS,
        )

    def bytes(self, pixels: int, number: int) -> int:
        """For a picture of so many pixels, with numbers of so many bytes."""
        patches = -(-pixels // self.patch**2)
        values = CHANNELS * pixels * (VALUE + FRAME * self.frames)
        return patches * (STREAMS * self.width + MLPS * self.mlp) * number + values


def _count(values: Mapping[str, Any], name: str, default: int) -> int:
    value = values.get(name)
    return value if type(value) is int and 0 < value < 10**7 else default
