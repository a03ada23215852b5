"""A small network that sees, behind the interface of real ones: it reads a picture's colours, four rows to a picture's tile."""

import hashlib
from collections.abc import Sequence as Items
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from PIL import Image

from models.language.load import LanguageModel
from models.vision.interface import Features, Positions, SeenPicture

PLACEHOLDER = 7
TILE = 8  # pixels


class Rotary(nn.Module):
    """Rotates by `positions`, while there are any."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self._base = base
        self.given: list[mx.array | None] = [None]

    def __call__(self, x: mx.array, offset: Any = 0) -> mx.array:
        given = self.given[0]
        if given is None:
            rotated: mx.array = self._base(x, offset=offset)
            return rotated
        rows = x if x.shape[2] == 1 else x[0].swapaxes(0, 1)[:, :, None]
        rotated = self._base(rows, offset=given[:, 0])
        return rotated if x.shape[2] == 1 else rotated[:, :, 0].swapaxes(0, 1)[None]


class TextNetwork(nn.Module):
    """A toy that takes positions. The rows of a picture stand at one of them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inner = model
        self._given: list[mx.array | None] = [None]
        for layer in model.model.layers:
            layer.self_attn.rope = rotary = Rotary(layer.self_attn.rope)
            rotary.given = self._given

    def __call__(
        self,
        tokens: mx.array,
        cache: Any = None,
        input_embeddings: mx.array | None = None,
        positions: mx.array | None = None,
    ) -> mx.array:
        self._given[0] = positions
        try:
            logits: mx.array = self.inner(tokens, cache=cache, input_embeddings=input_embeddings)
        finally:
            self._given[0] = None
        return logits

    @property
    def layers(self) -> Any:
        return self.inner.layers


class StandIn:
    """Implements VisionModel. `looks` counts the runs of its tower."""

    placeholder = PLACEHOLDER
    marker = "<picture>"

    def __init__(self, hidden: int, two_way: bool = False, at_one_place: bool = True) -> None:
        chance = np.random.default_rng(5)
        self.network = nn.Linear(12, hidden, bias=False)
        self.network.weight = mx.array(4 * chance.standard_normal((hidden, 12)).astype(np.float32))
        self.two_way = two_way
        self._at_one_place = at_one_place
        self.looks = 0

    def look(self, image: Image.Image) -> SeenPicture:
        pixels = np.asarray(image)
        grid = (image.height // TILE, image.width // TILE)
        digest = hashlib.blake2b(pixels.tobytes() + repr(grid).encode(), digest_size=16).digest()
        return SeenPicture(pixels, grid, 4 * grid[0] * grid[1], digest)

    def expand(self, prompt: str, pictures: Items[SeenPicture]) -> str:
        raise NotImplementedError

    def features(self, picture: SeenPicture) -> Features:
        self.looks += 1
        rows, columns = picture.grid
        pixels = mx.array(picture.pixels[: rows * TILE, : columns * TILE]).astype(mx.float32) / 255
        tiles = pixels.reshape(rows, TILE, columns, 2, TILE // 2, 3).swapaxes(1, 2)
        colours = tiles.mean(axis=4).reshape(rows * columns, TILE, 2, 3)
        quarters = mx.concatenate([colours[:, 2 * at : 2 * at + 2] for at in range(4)], axis=0)
        seen = self.network(quarters.reshape(picture.tokens, 12))
        return Features(seen)

    def positions(self, tokens: Items[int], pictures: Items[SeenPicture]) -> Positions | None:
        if not self._at_one_place:
            return None
        axes, at = [], -1
        for place, token in enumerate(tokens):
            at += not (place and token == tokens[place - 1] == PLACEHOLDER)
            axes.append(at)
        return Positions(np.repeat(np.array(axes, np.int32)[:, None], 3, axis=1), at + 1 - len(tokens))


class Whole:
    """A cache for a text that is fed whole, of which some runs see each other in both directions."""

    offset = 0

    def __init__(self, length: int, two_way: Items[tuple[int, int]]) -> None:
        visible = np.tril(np.ones((length, length), bool))
        for first, last in two_way:
            visible[first:last, first:last] = True
        self._visible = mx.array(visible)

    def make_mask(self, *_: Any, **__: Any) -> mx.array:
        return self._visible

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        return keys, values


def greedy(
    model: LanguageModel, vision: StandIn, tokens: list[int], pictures: list[SeenPicture], count: int
) -> list[int]:
    """What the networks write, computed from the whole text for each token."""
    network = model.model
    ids, answer = np.array(tokens), list[int]()
    rows = [row for picture in pictures for row in np.array(vision.features(picture).rows)]
    positions = vision.positions(tokens, pictures)
    runs, at = [], 0
    places = np.flatnonzero(ids == PLACEHOLDER)
    for picture in pictures:
        own = places[at : at + picture.tokens]
        at += picture.tokens
        runs.append((int(own[0]), int(own[-1]) + 1))
    for _ in range(count):
        text = [*tokens, *answer]
        x = np.array(network.inner.model.embed_tokens(mx.array(text))) + 0
        if rows:
            x[places] = rows
        axes = None
        if positions is not None:
            later = np.arange(len(tokens), len(text)) + positions.offset
            axes = mx.array(np.concatenate([positions.axes[:, :1], later[:, None]]).astype(np.int32))
        cache = [Whole(len(text), runs if vision.two_way else ())] * len(network.layers)
        logits = network(mx.array([text]), cache=cache, input_embeddings=mx.array(x)[None], positions=axes)
        answer.append(int(mx.argmax(logits[0, -1]).item()))
    return answer
