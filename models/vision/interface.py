"""The interface between chats with pictures and the networks that see them: one implementation for each family.

A picture is prepared where requests are read (`look`, any thread, no MLX), and becomes `tokens` rows of the text
network's input on the thread of the GPU (`features`). In a prompt the token `placeholder` stands for each of its rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import mlx.core as mx
    import mlx.nn as nn
    from PIL import Image

DIGEST_BYTES = 16


@dataclass(frozen=True, eq=False)
class SeenPicture:
    """What a family's processor makes of one picture."""

    pixels: NDArray[
        Any
    ]  # as `features` takes them; small ones if possible (uint8), because they wait with their request
    grid: tuple[int, ...]  # (t, h, w) patches, or rows and columns of tiles
    tokens: int  # rows that it becomes in the prompt
    digest: bytes  # DIGEST_BYTES of pixels and grid: the identity in the prefix cache


@dataclass(frozen=True, eq=False)
class Features:
    """`rows` [token, hidden], as `input_embeddings` of the text network takes them. `deepstack`: what is added to these
    rows after each of the first layers, each [token, hidden]."""

    rows: "mx.array"
    deepstack: tuple["mx.array", ...] = ()


@dataclass(frozen=True, eq=False)
class Positions:
    """Of a prompt's tokens, three each (time, height, width); what follows the prompt is at its index plus `offset` in
    all three."""

    axes: NDArray[np.int32]  # [token, 3]
    offset: int


class VisionModel(Protocol):
    """The text network is called as `network(tokens, cache=…, input_embeddings=…)`, with `positions=` [token, 3] if
    `positions` returns some, and `deepstack=` (a list of [token, 1, hidden], zero beside pictures) if features have it.
    `tokens` are [token, 1]: each is a row of its own, also where prompts are read. Without `positions` it rotates by the
    offset of its caches."""

    network: "nn.Module"  # the tower with its projector
    placeholder: int  # id of the token that stands for one row
    two_way: bool  # whether the rows of a picture attend to each other in both directions

    def look(self, image: "Image.Image") -> SeenPicture:
        """Resizes and tiles as transformers' processor does. `image` is RGB, upright, without transparency. Called on any
        thread: no MLX. ValueError, with a message for the user, if the picture cannot be taken."""

    def expand(self, prompt: str, pictures: Sequence[SeenPicture]) -> str:
        """The text that the chat template has written, with all placeholders in place of one marker for each picture, as
        transformers' processor does. ValueError if the markers are not as many as the pictures."""

    def features(self, picture: SeenPicture) -> Features:
        """On the thread that loaded the model; lazy."""

    def positions(self, tokens: Sequence[int], pictures: Sequence[SeenPicture]) -> Positions | None:
        """Of a whole prompt, in which pictures are placeholders; None: they are counted one by one, as without pictures."""

    @property
    def marker(self) -> str:
        """What stands for a picture where a chat template takes strings alone; `expand` understands it."""


class Load(Protocol):
    """What each module of a family has as `load`."""

    def __call__(
        self,
        config: Mapping[str, Any],
        folder: Path,
        weights: Mapping[str, "mx.array"],
        dtype: "mx.Dtype",
    ) -> VisionModel:
        """`config`: config.json; `folder`: with preprocessor_config.json and the tokenizer's files; `weights`: all tensors of
        the checkpoint, lazily, by their names there; `dtype`: of the text network, which the features should have.
        ValueError, naming tensor or setting, if they do not fit."""
