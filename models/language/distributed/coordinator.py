"""Keeps the ranks of a sharded model in step: the first rank leads, the others follow.

Each rank holds a share of every layer, and a forward pass sums the results of all ranks, so all must make the same
passes over the same rows in the same order. Every rank runs the same batch (`worker_loop.py`). Decisions that depend on
the clock, on random numbers, on a grammar or on clients are made by the first rank and broadcast over sockets; the
tokens it samples reach the others through an all_sum to which they contribute zeros.
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
    priority: int = 0


class Remove(Struct, tag=True):
    """A sequence leaves, wherever it is."""

    number: int


class Forget(Struct, tag=True):
    """The prefix cache is cleared."""


class Step(Struct, tag=True):
    """One step of the batch begins."""


class Decided(Struct, tag=True):
    """A decision of the leader that the others cannot make; `what` names the point in the step."""

    what: str
    value: list[int]


class Embed(Struct, tag=True):
    """Texts go through the network together, for their embeddings."""

    texts: list[list[int]]


Message = Add | Remove | Forget | Step | Decided | Embed
_MESSAGE: Any = Message  # a union: type checkers do not take it for a class


class Ranks:
    """A single process: broadcasts go nowhere, and its own decisions hold."""

    spread = False
    leads = True
    group: mx.distributed.Group | None = None

    def broadcast(self, message: Message) -> None:
        """Tell all ranks what to do next."""

    def agree(self, what: str, value: list[int]) -> list[int]:
        """The first rank's `value`, on all ranks."""
        return value

    def tokens(self, sampled: mx.array) -> mx.array:
        """The tokens that the first rank has sampled, on all ranks."""
        return sampled


class Leader(Ranks):
    spread = True

    def __init__(self, backend: str, sockets: Sequence[MessageSocket]) -> None:
        """Returns when all ranks have joined; MLX finds them through environment variables."""
        self.group = mx.distributed.init(strict=True, backend=backend)
        self._sockets = sockets

    def broadcast(self, message: Message) -> None:
        raw = msgpack.encode(message)
        for socket in self._sockets:
            socket.send(raw)

    def agree(self, what: str, value: list[int]) -> list[int]:
        self.broadcast(Decided(what, value))
        return value

    def tokens(self, sampled: mx.array) -> mx.array:
        return mx.distributed.all_sum(sampled, group=self.group)


class Follower(Ranks):
    spread = True
    leads = False

    def __init__(self, backend: str, socket: MessageSocket) -> None:
        """Like Leader's."""
        self.group = mx.distributed.init(strict=True, backend=backend)
        self._socket = socket

    def receive(self) -> Message | None:
        """The next message of the first rank; None when it has closed the connection."""
        return self._socket.receive(_MESSAGE)

    def agree(self, what: str, value: list[int]) -> list[int]:
        message = self.receive()
        if not isinstance(message, Decided) or message.what != what:
            raise RankDesync(
                f"expected the first rank's decision about {what}, received {type(message).__name__}"
            )
        return message.value

    def tokens(self, sampled: mx.array) -> mx.array:
        """`sampled` is the logits here: computing them takes part in the sums of all ranks; their values are not used."""
        zeros = mx.depends(mx.zeros(sampled.shape[:1], dtype=mx.uint32), sampled)
        return mx.distributed.all_sum(zeros, group=self.group)
