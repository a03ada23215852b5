import mlx.core as mx
import numpy as np
import pytest

from models.vae.tiling import (
    Lazy,
    Materialized,
    RowWindow,
    TileScheduler,
    halo,
    materialize,
    materialize_together,
)

PICTURE = mx.arange(7 * 2).reshape(1, 7, 2, 1)


def rows(window: RowWindow) -> list[int]:
    """The numbers of the rows in a window of PICTURE."""
    return [int(row) // 2 for row in window.rows[0, :, 0, 0].tolist()]


@pytest.mark.parametrize("sizes", [[7], [3, 4], [1] * 7])
def test_a_window_spans_pieces_and_ends_at_the_edges(sizes: list[int]) -> None:
    borders = np.cumsum(sizes)[:-1].tolist()
    image = Materialized(mx.split(PICTURE, borders, axis=1))
    assert rows(image.window(2, 5)) == [2, 3, 4]
    assert rows(image.window(-2, 1)) == [0]
    assert rows(image.window(6, 9)) == [6]
    assert image.whole().tolist() == PICTURE.tolist()


def test_without_a_scheduler_an_image_is_one_strip() -> None:
    assert list(Materialized([PICTURE]).strips()) == [(0, 7)]


def test_strips_cover_an_image_once() -> None:
    assert list(Materialized([PICTURE], TileScheduler(3)).strips()) == [(0, 3), (3, 6), (6, 7)]


def test_materializing_releases_the_rows_that_no_strip_needs_any_more() -> None:
    source = Materialized(mx.split(PICTURE, 7, axis=1), TileScheduler(2))
    held = []

    def make(window: RowWindow) -> RowWindow:
        held.append(len(source._strips))
        return window.map(lambda actual: actual + 1)

    materialized = materialize(Lazy(make, (source, halo(1))))
    assert materialized.whole().tolist() == (PICTURE + 1).tolist()
    assert held == [7, 6, 4, 2]


def test_storing_keeps_what_it_is_told_to_keep() -> None:
    source = Materialized(mx.split(PICTURE, 7, axis=1), TileScheduler(2))
    materialize(Lazy(lambda window: window, (source, halo(0))), release=False)
    assert source.whole().shape == PICTURE.shape


def test_images_of_one_source_are_materialized_side_by_side() -> None:
    source = Materialized(mx.split(PICTURE, 7, axis=1), TileScheduler(3))
    calls = []

    def make(window: RowWindow) -> RowWindow:
        calls.append(rows(window))
        return window

    images = [Lazy(make, (source, halo(1))) for _ in range(2)]
    assert [image.whole().tolist() for image in materialize_together(images)] == [PICTURE.tolist()] * 2
    assert calls[:4] == [[0, 1, 2, 3], [0, 1, 2, 3], [2, 3, 4, 5, 6], [2, 3, 4, 5, 6]]


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (mx.gpu, ["begin 2", "begin 1", "begin 3", "wait for 2", "begin 1", "wait for 1"]),
        (mx.cpu, ["wait for 2", "wait for 1", "wait for 3", "wait for 1"]),
    ],
    ids=["gpu", "processor"],
)
def test_a_gpu_begins_two_strips_before_one_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, device: mx.DeviceType, expected: list[str]
) -> None:
    done: list[str] = []
    monkeypatch.setattr(mx, "default_device", lambda: device)
    monkeypatch.setattr(mx, "async_eval", lambda *strip: done.append(f"begin {len(strip)}"))
    monkeypatch.setattr(mx, "eval", lambda *strip: done.append(f"wait for {len(strip)}"))
    scheduler = TileScheduler(3)
    for count in (2, 1, 3, 1):
        scheduler.submit(*[PICTURE] * count)
    assert done == expected


def test_rows_are_computed_where_they_are_asked_for() -> None:
    calls = []
    source = Materialized([PICTURE])

    def make(window: RowWindow) -> RowWindow:
        calls.append(rows(window))
        return window

    image = Lazy(make, (source, halo(1)))
    assert rows(image.window(2, 4)) == [2, 3]
    assert calls == [[1, 2, 3, 4]]
