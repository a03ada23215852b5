"""In what strips pictures are decoded, by their size and by what may be held."""

import pytest

from models.vae.strips import LEAST, Strips

ROOM = 1_600_000_000
CHANNELS = 128
megapixels = pytest.mark.parametrize("side", [256, 512, 1024, 1448, 2048, 4096])


def within(side: int, room: int = ROOM, size: int = 2, unfolds: bool = False) -> Strips:
    return Strips.within(room, side, side * side * CHANNELS * size, unfolds)


def test_a_megapixel_in_half_precision_is_computed_once() -> None:
    assert within(1024) == Strips(256, recompute=False)


def test_small_pictures_are_one_strip() -> None:
    assert within(256) == Strips(256, recompute=False)


def test_pictures_that_leave_no_room_are_computed_again() -> None:
    assert within(2048) == Strips(32, recompute=True)
    assert within(1024, size=4, unfolds=True).recompute


@megapixels
def test_less_room_never_makes_strips_higher(side: int) -> None:
    for unfolds in (False, True):
        actual = [within(side, room, unfolds=unfolds) for room in (10**10, 3 * 10**9, 10**9, 10**8, 1)]
        assert [strips.recompute for strips in actual] == sorted(strips.recompute for strips in actual)
        for recompute in (False, True):
            rows = [strips.rows for strips in actual if strips.recompute == recompute]
            assert rows == sorted(rows, reverse=True)


@megapixels
def test_strips_are_never_so_low_that_the_rows_around_them_are_most_of_the_work(side: int) -> None:
    assert within(side, room=1).rows >= LEAST


@pytest.mark.parametrize("side", [1, 31, 40])
def test_pictures_lower_than_that_are_one_strip(side: int) -> None:
    assert within(side, room=1) == Strips(side, recompute=True)


def test_strips_of_no_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="strips of 0 rows"):
        Strips(0)
