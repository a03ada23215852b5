"""The worker ranks carry out the messages of the first rank."""

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import pytest

from models.language.cache.prefix_cache import PrefixCache
from models.language.distributed.coordinator import Add, Follower, Forget, Message, Step
from models.language.embedding.model import EmbeddingError
from models.language.paged.network import PagedNetwork
from models.language.worker_loop import worker_loop
from tests.models.language.batch.test_batch import toy


class ScriptedFollower(Follower):
    """A follower that receives the given messages, and holds the whole model."""

    def __init__(self, messages: Iterator[Message]) -> None:
        self._messages = messages

    def receive(self) -> Message | None:
        return next(self._messages, None)

    def agree(self, what: str, value: list[int]) -> list[int]:
        return value

    def tokens(self, drawn: mx.array) -> mx.array:
        return mx.argmax(drawn, axis=-1).astype(mx.uint32)


def test_the_prefix_cache_is_cleared_when_the_first_rank_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PagedNetwork, "of", lambda *limits: None)
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

    monkeypatch.setattr("models.language.worker_loop.PrefixCache", Noted)
    model = toy("qwen3")
    ranks: Any = ScriptedFollower(messages())
    worker_loop(model, ranks, 4, 10**9, EmbeddingError("none"), lambda expected: None)
    assert held == [1, 0]
