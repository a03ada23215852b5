"""Ties or unties the head and the embedding of a language model, depending on its weight files.

Some of mlx-lm's architectures always tie them, others never do. transformers ties them if the files have no head.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn

HEAD = "lm_head.weight"
EMBEDDINGS = (
    "embed_tokens.weight",
    "wte.weight",
    "embed_in.weight",
    "embeddings.weight",
    "tok_embeddings.weight",
)


@dataclass(frozen=True)
class Untied:
    """A head taken out of the stored weights, and the path of its embedding in the network."""

    path: str
    head: mx.array

    def place(self, weights: dict[str, mx.array]) -> None:
        """Put both matrices under their names in the network."""
        weights[f"{self.path}.embedding.weight"] = weights.pop(f"{self.path}.weight")
        weights[f"{self.path}.head.weight"] = self.head


class UntiedEmbedding(nn.Module):
    """Replaces an embedding that the architecture also uses as its head."""

    def __init__(self, embedding: nn.Embedding, head: nn.Linear) -> None:
        super().__init__()
        self.embedding = embedding
        self.head = head

    @property
    def weight(self) -> mx.array:
        return self.embedding.weight

    def __call__(self, tokens: mx.array) -> mx.array:
        return self.embedding(tokens)

    def as_linear(self, x: mx.array) -> mx.array:
        return self.head(x)


def untie(model: nn.Module, stored: dict[str, mx.array], names: Iterable[str]) -> Untied | None:
    """Move the head from `stored` into a network without one, whose parameters are `names`.

    None if the network has a head, the files have none, or theirs equals the embedding.
    """
    _restore_untied(model, stored)
    head = next((key for key in stored if key.endswith(HEAD)), None)
    names = list(names)
    has_head = _ending_with(names, (HEAD,)) is not None
    place = _ending_with(names, EMBEDDINGS)
    embedding = _ending_with(stored, EMBEDDINGS)
    if head is None or has_head or place is None or embedding is None:
        return None
    weight = stored.pop(head)
    if weight.shape != stored[embedding].shape or mx.array_equal(weight, stored[embedding]):
        return None
    path = place.removesuffix(".weight")
    parent, _, name = path.rpartition(".")
    _untie_embedding(_module(model, parent), name)
    return Untied(path, weight)


def _untie_embedding(owner: nn.Module, name: str) -> None:
    rows, width = owner[name].weight.shape
    owner[name] = UntiedEmbedding(owner[name], nn.Linear(width, rows, bias=False))


def _restore_untied(model: nn.Module, stored: dict[str, mx.array]) -> None:
    """Files saved from a network with an UntiedEmbedding already have its parameter names."""
    for key in stored:
        path = key.removesuffix(".head.weight")
        if path != key and f"{path}.embedding.weight" in stored:
            parent, _, name = path.rpartition(".")
            owner = _module(model, parent)
            if isinstance(owner.get(name), nn.Embedding):
                _untie_embedding(owner, name)


def share_embedding(weights: dict[str, mx.array], names: Iterable[str]) -> None:
    """Use the embedding as the head's weight if the files have no head."""
    head = _ending_with(names, (HEAD, "embed_out.weight"))
    embedding = _ending_with(weights, EMBEDDINGS)
    if head is not None and head not in weights and HEAD in weights:  # of a text model nested in another
        weights[head] = weights.pop(HEAD)
    if head is not None and embedding is not None and head not in weights:
        for leaf in ("weight", "scales", "biases"):
            source = embedding.removesuffix("weight") + leaf
            if source in weights:
                weights[head.removesuffix("weight") + leaf] = weights[source]


def _ending_with(names: Iterable[str], endings: tuple[str, ...]) -> str | None:
    return next(
        (name for name in names if f".{name}".endswith(tuple(f".{ending}" for ending in endings))), None
    )


def _module(model: nn.Module, path: str) -> nn.Module:
    node: Any = model  # or a list of modules along the path
    for part in path.split(".") if path else ():
        node = node[int(part)] if isinstance(node, list) else node[part]
    return cast(nn.Module, node)
