"""The head and the embedding of a language model: one matrix or two, as its files have them.

Some of mlx-lm's architectures always share one, others never do. transformers shares one where the files have no other.
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
    """A head that was taken out of the files, and the path of the embedding that it belongs beside."""

    path: str
    head: mx.array

    def place(self, weights: dict[str, mx.array]) -> None:
        """The names that both matrices have in the network."""
        weights[f"{self.path}.embedding.weight"] = weights.pop(f"{self.path}.weight")
        weights[f"{self.path}.head.weight"] = self.head


class UntiedEmbedding(nn.Module):
    """In place of an embedding that an architecture also takes for its head."""

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
    """Take the head from `stored` where a network has none, and give it to the network, whose parameters are `names`.

    None where the network has a head, the files have none, or theirs is the embedding again.
    """
    _as_written_before(model, stored)
    head = next((key for key in stored if key.endswith(HEAD)), None)
    names = list(names)
    own = _ending_with(names, (HEAD,))
    place = _ending_with(names, EMBEDDINGS)
    embedding = _ending_with(stored, EMBEDDINGS)
    if head is None or own is not None or place is None or embedding is None:
        return None
    weight = stored.pop(head)
    if weight.shape != stored[embedding].shape or mx.array_equal(weight, stored[embedding]):
        return None
    path = place.removesuffix(".weight")
    parent, _, name = path.rpartition(".")
    owner = _module(model, parent)
    rows, width = weight.shape
    owner[name] = UntiedEmbedding(owner[name], nn.Linear(width, rows, bias=False))
    return Untied(path, weight)


def _as_written_before(model: nn.Module, stored: dict[str, mx.array]) -> None:
    """Files that were written from a network with such an embedding have its names already."""
    for key in stored:
        path = key.removesuffix(".head.weight")
        if path != key and f"{path}.embedding.weight" in stored:
            parent, _, name = path.rpartition(".")
            owner = _module(model, parent)
            if isinstance(owner.get(name), nn.Embedding):
                rows, width = owner[name].weight.shape
                owner[name] = UntiedEmbedding(owner[name], nn.Linear(width, rows, bias=False))


def share_embedding(weights: dict[str, mx.array], names: Iterable[str]) -> None:
    """Give a network's head the embedding where the files have nothing else for it."""
    head = _ending_with(names, (HEAD, "embed_out.weight"))
    embedding = _ending_with(weights, EMBEDDINGS)
    if head is not None and head not in weights and HEAD in weights:  # of a text model inside another
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
    node: Any = model  # or a list of modules on the way
    for part in path.split(".") if path else ():
        node = node[int(part)] if isinstance(node, list) else node[part]
    return cast(nn.Module, node)
