"""What Qwen2.5-VL and Qwen3-VL share around their towers: prompts with pictures, and positions over three axes."""

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.checkpoint.weights import WeightMap
from models.vision.interface import Positions, SeenPicture
from models.vision.prompts import expanded
from models.vision.qwen_processor import QwenProcessor
from models.vision.settings import flat_kernel, token_id, under

IMAGE = "<|image_pad|>"
BEGIN, END = "<|vision_start|>", "<|vision_end|>"
# Before the tower's own names, in files of all ages.
PREFIXES = ("model.visual.", "visual.", "vision_tower.")


# Of attention, which some files have in three.
FUSED = WeightMap(fuse={"attn.qkv": ("attn.q", "attn.k", "attn.v")})
PATCHES, SECOND_FRAME = "patch_embed.proj.weight", "patch_embed.proj.weight.1"


def tower_weights(weights: Mapping[str, mx.array], channels: int) -> dict[str, mx.array]:
    """The tower's tensors out of a checkpoint's; all, if it is a tower's. In a GGUF, whose tensors have four axes at most,
    the kernel over patches is one for each frame, or its first two axes are one."""
    tower = under(weights, *PREFIXES) or dict(weights)
    if SECOND_FRAME in tower:
        tower[PATCHES] = mx.stack([tower[PATCHES], tower.pop(SECOND_FRAME)], axis=2)
    elif PATCHES in tower and tower[PATCHES].ndim == 4 and len(tower[PATCHES]) % channels == 0:
        tower[PATCHES] = tower[PATCHES].reshape(-1, channels, *tower[PATCHES].shape[1:])
    return flat_kernel(tower, PATCHES.removesuffix(".weight"), channels)


class QwenVision:
    """A vision model of Qwen's, but for its `features`."""

    two_way = False
    marker = BEGIN + IMAGE + END

    def __init__(
        self,
        network: nn.Module,
        config: Mapping[str, Any],
        settings: Mapping[str, Any],
        vision: Any,
        dtype: mx.Dtype,
    ) -> None:
        """`settings`: those of the picture processor; `vision`: the tower's configuration."""
        self.network = network
        self.dtype = dtype
        self.processor = QwenProcessor.from_dict(settings)
        self.processor.check(
            patch_size=vision.patch_size,
            temporal_patch_size=vision.temporal_patch_size,
            merge_size=vision.spatial_merge_size,
        )
        self.placeholder = token_id(config, "image_token_id", default=151655)

    def look(self, image: Image.Image) -> SeenPicture:
        return self.processor.look(image)

    def expand(self, prompt: str, pictures: Sequence[SeenPicture]) -> str:
        return expanded(prompt, IMAGE, [IMAGE * picture.tokens for picture in pictures])

    def positions(self, tokens: Sequence[int], pictures: Sequence[SeenPicture]) -> Positions | None:
        """A picture's rows stand at one time, in its rows and columns; what follows is behind the longer of its sides."""
        if not pictures:
            return None
        grids = [picture.grid for picture in pictures]
        axes = picture_positions(tokens, grids, self.placeholder, self.processor.merge_size)
        return Positions(axes, int(axes[-1].max()) + 1 - len(axes))


def picture_positions(
    tokens: Sequence[int], grids: Sequence[tuple[int, ...]], placeholder: int, merge: int
) -> NDArray[np.int32]:
    """The positions [token, axis] of a prompt in which `placeholder` stands for the rows of pictures of such grids, whose
    squares of `merge` patches are one row each."""
    ids = np.asarray(tokens)
    axes: list[NDArray[np.integer[Any]]] = []
    at = begin = 0
    for grid in grids:
        first = begin + int(np.argmax(ids[begin:] == placeholder))
        axes.append(np.repeat(np.arange(at, at + first - begin)[:, None], 3, axis=1))
        at += first - begin
        height, width = grid[1] // merge, grid[2] // merge
        axes.append(np.indices((1, height, width)).reshape(3, -1).T + at)
        at += max(height, width)
        begin = first + height * width
    rest = len(ids) - begin
    axes.append(np.repeat(np.arange(at, at + rest)[:, None], 3, axis=1))
    return np.concatenate(axes).astype(np.int32)
