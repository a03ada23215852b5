"""What the text network is fed where a prompt has pictures: embeddings of its words, and rows of what its tower has seen."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from models.language.pictures.prompt import PromptPictures, positions_of
from models.language.pictures.tokens import is_picture, picture_row
from models.vision.interface import Features, SeenPicture, VisionModel

EMBEDDING = "embed_tokens"
# Of pictures that were looked at last: they are looked at once, however many chunks and prompts have them.
FEATURE_BYTES = 256 * 1024**2


@dataclass(frozen=True)
class Chunk:
    """A part of a prompt: its tokens, the place of the first, and the pictures of the whole."""

    tokens: Sequence[int]
    first: int
    pictures: PromptPictures | None


@dataclass(frozen=True, eq=False)
class Inputs:
    """`tokens` [token], with some id where a picture is, and what the network is called with beside them."""

    tokens: mx.array
    arguments: dict[str, Any]


class PictureReader:
    """Runs the tower, on the thread that owns the networks."""

    def __init__(self, vision: VisionModel, model: nn.Module, most: int = FEATURE_BYTES) -> None:
        self._vision = vision
        self._embed = embedding_of(model)
        self._most = most
        self._features: OrderedDict[bytes, Features] = OrderedDict()
        self._bytes = 0

    def look(self, chunks: Sequence[Chunk]) -> None:
        """Compute the features that the chunks need; takes as long as the tower does."""
        for digest, picture in _pictures(chunks).items():
            self._seen(digest, picture)

    def inputs(self, chunks: Sequence[Chunk]) -> Inputs:
        tokens = [token for chunk in chunks for token in chunk.tokens]
        ids = mx.array([0 if is_picture(token) else token for token in tokens], mx.uint32)
        embeddings = self._embed(ids)
        places: dict[bytes, tuple[list[int], list[int]]] = {}
        for at, token in enumerate(tokens):
            if is_picture(token):
                digest, row = picture_row(token)
                at_and_row = places.setdefault(digest, ([], []))
                at_and_row[0].append(at)
                at_and_row[1].append(row)
        deepstack: list[mx.array] = []
        pictures = _pictures(chunks)
        for digest, (places_of, rows) in places.items():
            seen = self._seen(digest, pictures[digest])
            where, which = mx.array(places_of), mx.array(rows)
            embeddings[where] = seen.rows[which].astype(embeddings.dtype)
            deepstack = deepstack or [mx.zeros_like(embeddings) for _ in seen.deepstack]
            for layer, more in zip(deepstack, seen.deepstack, strict=True):
                layer[where] = more[which].astype(embeddings.dtype)
        arguments: dict[str, Any] = {"input_embeddings": embeddings[:, None]}
        if any(chunk.pictures is not None and chunk.pictures.positions is not None for chunk in chunks):
            arguments["positions"] = mx.array(_positions(chunks))
        if deepstack:
            arguments["deepstack"] = [layer[:, None] for layer in deepstack]
        return Inputs(ids, arguments)

    def clear(self) -> None:
        self._features.clear()
        self._bytes = 0

    def _seen(self, digest: bytes, picture: SeenPicture) -> Features:
        if digest in self._features:
            self._features.move_to_end(digest)
            return self._features[digest]
        features = self._vision.features(picture)
        mx.eval(features.rows, *features.deepstack)
        self._features[digest] = features
        self._bytes += _size(features)
        while self._bytes > self._most and len(self._features) > 1:
            _, oldest = self._features.popitem(last=False)
            self._bytes -= _size(oldest)
        return features


def _pictures(chunks: Sequence[Chunk]) -> dict[bytes, SeenPicture]:
    """Those of which the chunks have rows."""
    pictures: dict[bytes, SeenPicture] = {}
    for chunk in chunks:
        if chunk.pictures is not None:
            for digest in {picture_row(token)[0] for token in chunk.tokens if is_picture(token)}:
                pictures[digest] = chunk.pictures.by_digest[digest]
    return pictures


def _positions(chunks: Sequence[Chunk]) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.concatenate(
        [
            positions_of(chunk.pictures.positions if chunk.pictures else None, chunk.first, len(chunk.tokens))
            for chunk in chunks
        ]
    )


def _size(features: Features) -> int:
    return features.rows.nbytes + sum(layer.nbytes for layer in features.deepstack)


def embedding_of(model: nn.Module) -> Any:
    """The layer that turns tokens into the input of a text network."""
    layers = [module for path, module in model.named_modules() if path.rpartition(".")[2] == EMBEDDING]
    if len(layers) != 1:
        raise ValueError(f"the text network has {len(layers)} layers named {EMBEDDING}; one is needed")
    return layers[0]
