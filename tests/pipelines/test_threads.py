"""Work on several threads, and what comes back of it."""

import threading

import pytest

from pipelines.threads import Threads


def test_results_come_in_the_order_of_their_pieces() -> None:
    spread = Threads("test").spread
    assert spread(lambda n: n * n, range(100), 100) == [n * n for n in range(100)]
    assert spread(str, [], 0) == []


def test_a_single_piece_is_done_where_it_is_asked_for() -> None:
    assert Threads("test").spread(lambda _: threading.current_thread(), [None], 1) == [
        threading.current_thread()
    ]


def test_what_a_piece_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        Threads("test").spread(lambda n: 1 // n, [1, 0, 1], 3)
