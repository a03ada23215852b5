"""What the other ranks do of what the first one tells."""

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import pytest

from models.language import worker_loop
from models.language.cache.prefix_cache import PrefixCache
from models.language.distributed.coordinator import Add, Follower, Forget, Message, Step
from models.language.embedding.model import EmbeddingError
from models.language.worker_loop import follow
from tests.models.language.batch.test_batch import toy


class Told(Follower):
    """A follower that hears what it was given, of a model that it has alone."""

    def __init__(self, messages: Iterator[Message]) -> None:
        self._messages = messages

    def hear(self) -> Message | None:
        return next(self._messages, None)

    def decide(self, what: str, value: list[int]) -> list[int]:
        return value

    def tokens(self, drawn: mx.array) -> mx.array:
        return mx.argmax(drawn, axis=-1).astype(mx.uint32)


def test_what_was_read_is_forgotten_when_the_first_rank_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[PrefixCache] = []
    held: list[int] = []

    class Noted(PrefixCache):
        def __init__(self, limit: int) -> None:
            super().__init__(limit)
            kept.append(self)

    def messages() -> Iterator[Message]:
        yield Add(0, [5, 6, 7, 8], 2, [])
        yield from [Step()] * 6
        held.append(len(kept[0]))
        yield Forget()
        held.append(len(kept[0]))

    monkeypatch.setattr(worker_loop, "PrefixCache", Noted)
    model = toy("qwen3")
    ranks: Any = Told(messages())
    follow(model, ranks, 4, 10**9, EmbeddingError("none"), lambda wanted: None)
    assert held == [1, 0]
