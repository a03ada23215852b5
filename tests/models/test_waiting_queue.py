"""Waiting work begins in order of priority and arrival, and none of it waits for ever."""

import random
from dataclasses import dataclass

import pytest

from models.waiting_queue import MOST_OVERTAKING, WaitingQueue


@dataclass(eq=False)
class Work:
    name: str
    priority: int = 0


def queue(*names: str) -> tuple[WaitingQueue[Work], dict[str, Work]]:
    """`a`, or `a5` for a priority of 5."""
    works = {name: Work(name, int(name[1:] or 0)) for name in names}
    made: WaitingQueue[Work] = WaitingQueue(lambda work: work.priority)
    for work in works.values():
        made.add(work)
    return made, works


def drained(made: WaitingQueue[Work]) -> str:
    names = []
    while made:
        assert made.peek() is made.peek()
        names.append(made.pop().name)
    return " ".join(names)


def test_equal_priorities_begin_in_the_order_in_which_they_came() -> None:
    assert drained(queue("a", "b", "c")[0]) == "a b c"


def test_lower_priorities_come_first() -> None:
    assert drained(queue("a", "b3", "c-1", "d3", "e")[0]) == "c-1 a e b3 d3"


def test_what_had_begun_goes_on_first() -> None:
    made, works = queue("a", "b", "c9")
    last = works["c9"]
    made.remove(last)
    made.add_first(last)
    assert drained(made) == "c9 a b"


def test_what_leaves_is_not_met_again() -> None:
    made, works = queue("a", "b2", "c")
    made.remove(works["c"])
    assert [work.name for work in made] == ["a", "b2"]
    made.clear()
    assert len(made) == 0
    made.add(works["c"])
    assert drained(made) == "c"


def test_after_some_others_the_one_that_waited_longest_begins() -> None:
    made, _ = queue("z1000000", *(f"a{-number}" for number in range(100)))
    begun = [made.pop().name for _ in range(MOST_OVERTAKING + 1)]
    assert begun[-1] == "z1000000"
    assert "z1000000" not in begun[:-1]


def test_a_steady_stream_of_urgent_work_starves_none() -> None:
    made, _ = queue(*(f"{letter}9" for letter in "abcdefgh"))
    begun = []
    for number in range(200):
        made.add(Work(f"urgent {number}", -5))
        begun.append(made.pop().name)
    assert [name for name in begun if name.endswith("9") and "urgent" not in name] == [
        f"{x}9" for x in "abcdefgh"
    ]
    assert sum("urgent" in name for name in begun) > 150


def test_the_same_calls_lead_to_the_same_order() -> None:
    """As the ranks of a spread model need it."""

    def names(seed: int) -> list[str]:
        choose, made = random.Random(seed), queue()[0]
        begun = []
        for number in range(500):
            made.add(Work(f"{number}", choose.randrange(3)))
            if choose.random() < 0.6:
                begun.append(made.pop().name)
        return begun

    assert names(7) == names(7)


def test_an_empty_queue_has_no_next() -> None:
    with pytest.raises(IndexError):
        queue()[0].peek()
