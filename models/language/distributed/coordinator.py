"""A model spread over several processes, its ranks: the first one leads, the others follow.

Each rank holds a share of every layer, and a forward pass adds up what all of them computed: so all must do the same
passes over the same rows in the same order. They run the same batch (`following.py`); what depends on the clock, on
random numbers, on a grammar or on who asks is decided by the first rank and told over a wire, and the tokens that it
draws reach the others as a sum in which theirs are zeros.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from msgspec import Struct, msgpack

from models.language.distributed.wire import MessageSocket, RankDesync


class Add(Struct, tag=True):
    """A sequence joins the batch."""

    number: int
    prompt: list[int]
    max_tokens: int
    stop_tokens: list[int]


class Remove(Struct, tag=True):
    """A sequence leaves, wherever it is."""

    number: int


class Forget(Struct, tag=True):
    """Nothing is kept of prompts that were read."""


class Step(Struct, tag=True):
    """One step of the batch begins."""


class Decided(Struct, tag=True):
    """What the leader found where the others could not know; `what` says at which point."""

    what: str
    value: list[int]


class Embed(Struct, tag=True):
    """Texts go through the network together, for their hidden states."""

    texts: list[list[int]]


Message = Add | Remove | Forget | Step | Decided | Embed
_MESSAGE: Any = Message  # a union, which is no class to a type checker


class Ranks:
    """One process alone: nobody to tell, and what it decides holds."""

    spread = False
    leads = True
    group: mx.distributed.Group | None = None

    def broadcast(self, message: Message) -> None:
        """Say what all are to do next."""

    def agree(self, what: str, value: list[int]) -> list[int]:
        """What the first rank takes `value` to be."""
        return value

    def tokens(self, drawn: mx.array) -> mx.array:
        """The tokens that the first rank has drawn."""
        return drawn


class Leader(Ranks):
    spread = True

    def __init__(self, backend: str, wires: Sequence[MessageSocket]) -> None:
        """Returns when all ranks are there, who are found by what the environment says to MLX."""
        self.group = mx.distributed.init(strict=True, backend=backend)
        self._wires = wires

    def broadcast(self, message: Message) -> None:
        raw = msgpack.encode(message)
        for wire in self._wires:
            wire.send(raw)

    def agree(self, what: str, value: list[int]) -> list[int]:
        self.broadcast(Decided(what, value))
        return value

    def tokens(self, drawn: mx.array) -> mx.array:
        return mx.distributed.all_sum(drawn, group=self.group)


class Follower(Ranks):
    spread = True
    leads = False

    def __init__(self, backend: str, wire: MessageSocket) -> None:
        """As the leader."""
        self.group = mx.distributed.init(strict=True, backend=backend)
        self._wire = wire

    def receive(self) -> Message | None:
        """What the first rank wants done; None when it has left."""
        return self._wire.receive(_MESSAGE)

    def agree(self, what: str, value: list[int]) -> list[int]:
        heard = self.receive()
        if not isinstance(heard, Decided) or heard.what != what:
            raise RankDesync(f"at {what!r} the first rank said {type(heard).__name__}")
        return heard.value

    def tokens(self, drawn: mx.array) -> mx.array:
        """`drawn`: the logits, which have to be computed for the others' sake; what they say is not looked at."""
        nothing = mx.depends(mx.zeros(drawn.shape[:1], dtype=mx.uint32), drawn)
        return mx.distributed.all_sum(nothing, group=self.group)
