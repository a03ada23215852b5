import mlx.core as mx
import numpy as np
import pytest

from models.planes import Computed, Stored, Window, reach, store

PICTURE = mx.arange(7 * 2).reshape(1, 7, 2, 1)


def rows(window: Window) -> list[int]:
    """The numbers of the rows in a window of PICTURE."""
    return [int(row) // 2 for row in window.rows[0, :, 0, 0].tolist()]


@pytest.mark.parametrize("sizes", [[7], [3, 4], [1] * 7])
def test_a_window_spans_pieces_and_ends_at_the_edges(sizes: list[int]) -> None:
    borders = np.cumsum(sizes)[:-1].tolist()
    plane = Stored(mx.split(PICTURE, borders, axis=1), step=3)
    assert rows(plane.window(2, 5)) == [2, 3, 4]
    assert rows(plane.window(-2, 1)) == [0]
    assert rows(plane.window(6, 9)) == [6]
    assert plane.whole().tolist() == PICTURE.tolist()


def test_strips_cover_a_plane_once() -> None:
    assert list(Stored([PICTURE], step=3).strips()) == [(0, 3), (3, 6), (6, 7)]


def test_storing_lets_go_of_the_rows_that_no_strip_needs_any_more() -> None:
    source = Stored(mx.split(PICTURE, 7, axis=1), step=2)
    held = []

    def make(window: Window) -> Window:
        held.append(len(source._pieces))
        return window.map(lambda found: found + 1)

    stored = store(Computed(make, (source, reach(1))))
    assert stored.whole().tolist() == (PICTURE + 1).tolist()
    assert held == [7, 6, 4, 2]


def test_storing_keeps_what_it_is_told_to_keep() -> None:
    source = Stored(mx.split(PICTURE, 7, axis=1), step=2)
    store(Computed(lambda window: window, (source, reach(0))), release=False)
    assert source.whole().shape == PICTURE.shape


def test_rows_are_computed_where_they_are_asked_for() -> None:
    asked = []
    source = Stored([PICTURE], step=3)

    def make(window: Window) -> Window:
        asked.append(rows(window))
        return window

    plane = Computed(make, (source, reach(1)))
    assert rows(plane.window(2, 4)) == [2, 3]
    assert asked == [[1, 2, 3, 4]]
