"""How far MLX may run ahead of a GPU."""

import mlx.core as mx
import pytest

from pipelines.mlx_memory import INFLIGHT_BYTES, inflight_limit


def limit() -> int:
    size = mx.set_memory_limit(1)
    mx.set_memory_limit(size)
    return size


def test_on_a_gpu_a_picture_gets_room_beyond_what_is_held_and_the_limit_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mx, "default_device", lambda: mx.gpu)
    before = limit()
    held = mx.get_active_memory()
    with inflight_limit(1024 * 1024, staged=False):
        assert limit() == held + INFLIGHT_BYTES
    with inflight_limit(1024 * 1024, staged=True):
        assert limit() < held + INFLIGHT_BYTES
    assert limit() == before


def test_a_limit_that_was_asked_for_is_never_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx, "default_device", lambda: mx.gpu)
    before = mx.set_memory_limit(1000)
    try:
        with inflight_limit(1024 * 1024, staged=False):
            assert limit() == 1000
    finally:
        mx.set_memory_limit(before)


def test_a_processor_runs_no_further_than_it_is() -> None:
    before = limit()
    with inflight_limit(1024 * 1024, staged=False):
        assert limit() == before
